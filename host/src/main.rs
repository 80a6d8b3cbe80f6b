//! The `pressroom` command. All of it is in the library's room `cli`.

fn main() -> std::process::ExitCode {
    pressroom::cli::main()
}
