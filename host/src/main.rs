//! The `pressroom` command. All of it is in the library's room `cli`.

/// What a peak took is given back to the system in the background. The system's own allocator keeps it: records are freed
/// on other threads than those that allocate them.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    pressroom::cli::main()
}
