//! What a configuration grants plugins, and the paths that it names beside.

use super::{Host, ReloadError, check, write};
use std::os::unix::fs::symlink;
use std::path::Path;

/// The section `label` of a plugin with these directories; those with a `+` may be written to.
fn plugin(label: &str, dirs: &[&str]) -> String {
    let dirs = dirs.iter().map(|dir| {
        let (host, write) = dir.strip_prefix('+').map_or((*dir, false), |host| (host, true));
        format!("{{ host = \"{host}\", guest = \"/{}\", write = {write} }}", host.len())
    });
    let dirs = dirs.collect::<Vec<_>>().join(", ");
    format!("[publishers.{label}]\ntype = \"wasm\"\nplugin = \"rows\"\ngrant.dirs = [{dirs}]\n")
}

/// What is wrong with a configuration; nothing if it is right.
fn problems(dir: &Path, text: &str) -> String {
    check(write(dir, text)).err().map(|error| error.to_string()).unwrap_or_default()
}

/// A folder with directories to be granted, and links in them and to them.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for name in ["rw/sub", "rw/plugins", "outside/plugins", "safe", "plugins"] {
        std::fs::create_dir_all(at(name)).unwrap();
    }
    for name in ["rw/file", "outside/file", "safe/file"] {
        std::fs::write(at(name), "text").unwrap();
    }
    for (link, to) in [
        ("rw/link", "../outside/file"),
        ("rw/out", "../outside"),
        ("safe/rw", "../rw"),
        ("safe/into", "../rw/link"),
        ("safe/plain", "../outside/file"),
    ] {
        symlink(to, at(link)).unwrap();
    }
    dir
}

#[test]
fn grants_that_overlap_are_refused_with_both_named_wherever_they_are() {
    let dir = folder();
    for second in ["rw/sub", "+rw/sub", "+rw", "rw", "safe/../rw/./sub", "safe/rw/sub", "rw/out", "rw/new"] {
        let one = problems(dir.path(), &plugin("a", &["+rw", second]));
        assert!(one.contains("publishers.a.grant.dirs.1.host: "), "{second}: {one}");
        assert!(one.contains("overlaps rw of publishers.a.grant.dirs.0.host"), "{second}: {one}");
        let two = problems(dir.path(), &(plugin("a", &["+rw"]) + &plugin("b", &["safe", second])));
        assert!(two.contains("publishers.b.grant.dirs.1.host: "), "{second}: {two}");
        assert!(two.contains("overlaps rw of publishers.a.grant.dirs.0.host"), "{second}: {two}");
    }
    // A member of a failover is a section as well.
    let members = "[publishers.both]\ntype = \"composite\"\nmode = \"failover\"\nmembers = [\"a\", \"b\"]\n";
    let failover = problems(dir.path(), &(plugin("a", &["+rw"]) + &plugin("b", &["rw/sub"]) + members));
    assert!(failover.contains("overlaps rw of publishers.a.grant.dirs.0.host"), "{failover}");
    let apart = plugin("a", &["+rw", "safe"]) + &plugin("b", &["safe", "+outside"]);
    assert_eq!(problems(dir.path(), &apart), "");
    assert_eq!(problems(dir.path(), &(plugin("a", &["rw"]) + &plugin("b", &["rw/sub"]))), "");
}

#[test]
fn no_path_of_the_configuration_leads_through_a_directory_that_a_plugin_may_write_to() {
    let dir = folder();
    let section = |key: &str, path: &str| match key {
        "publishers.x.path" => format!("[publishers.x]\ntype = \"file\"\npath = \"{path}\"\n"),
        "dead_letters.path" => format!("[dead_letters]\npath = \"{path}\"\n"),
        "publishers.x.only.event_name[0]" => {
            format!("[publishers.x]\ntype = \"stdout\"\nonly.event_name = [\"${{file:{path}}}\"]\n")
        }
        "publishers.x.grant.ca_file" => {
            format!("[publishers.x]\ntype = \"wasm\"\nplugin = \"x\"\ngrant.ca_file = \"{path}\"\n")
        }
        "plugins.dir" => format!("[plugins]\ndir = \"{path}/plugins\"\n"),
        "plugins.cache_dir" => format!("[plugins]\ncache_dir = \"{path}/cache\"\n"),
        _ => format!(
            "[publishers.x]\ntype = \"elasticsearch\"\nhosts = [\"https://a.example\"]\nca_file = \"{path}\"\n"
        ),
    };
    let mut keys = vec!["publishers.x.path", "dead_letters.path", "publishers.x.only.event_name[0]"];
    keys.push("publishers.x.grant.ca_file");
    #[cfg(feature = "elasticsearch")]
    keys.push("publishers.x.ca_file");
    for key in keys {
        for path in ["rw/file", "rw/link", "rw/out/file", "safe/into", "safe/rw/file", "safe/../rw/link"] {
            let text = section(key, path) + &plugin("a", &["+rw"]);
            let found = problems(dir.path(), &text);
            assert!(found.contains(&format!("{key}: ")), "{path}: {found}");
            assert!(
                found.contains("where the plugin of publishers.a may write (grant.dirs)"),
                "{path}: {found}"
            );
            assert_eq!(
                problems(dir.path(), &(section(key, path) + &plugin("a", &["rw"]))),
                "",
                "{key} {path}"
            );
        }
        for path in ["safe/file", "safe/plain", "outside/file"] {
            let text = section(key, path) + &plugin("a", &["+rw"]);
            assert_eq!(problems(dir.path(), &text), "", "{key} {path}");
        }
    }
    for key in ["plugins.dir", "plugins.cache_dir"] {
        for path in ["rw", "rw/out", "safe/rw", "safe/rw/out"] {
            let found = problems(dir.path(), &(section(key, path) + &plugin("a", &["+rw"])));
            assert!(
                found.contains("publishers.a.grant.dirs.0.host: no plugin may write to "),
                "{path}: {found}"
            );
        }
    }
}

#[tokio::test]
async fn a_plugin_file_that_is_a_link_to_where_a_plugin_may_write_does_not_run() {
    let dir = folder();
    let at = |name: &str| dir.path().join(name);
    let component = wat::parse_str("(component)").unwrap();
    for name in ["rw/mine.wasm", "outside/theirs.wasm"] {
        std::fs::write(at(name), &component).unwrap();
    }
    symlink("../outside/theirs.wasm", at("rw/other.wasm")).unwrap();
    for (name, to) in
        [("mine", "../rw/mine.wasm"), ("other", "../rw/other.wasm"), ("theirs", "../outside/theirs.wasm")]
    {
        symlink(to, at(&format!("plugins/{name}.wasm"))).unwrap();
    }
    let text = format!("[server]\nenabled = false\n{}", plugin("a", &["+rw"]));
    let host = Host::builder().config_file(write(dir.path(), &text)).start().await.unwrap();
    let reason = |name: &str| {
        let plugins = host.plugins();
        let plugin = plugins.iter().find(|plugin| plugin.plugin == name).unwrap();
        serde_json::to_string(plugin).unwrap()
    };
    for name in ["mine", "other"] {
        assert!(reason(name).contains("where the plugin of publishers.a may write"), "{}", reason(name));
    }
    assert!(!reason("theirs").contains("may write"), "{}", reason("theirs"));
    host.shutdown(std::time::Duration::ZERO).await;
}

#[tokio::test]
async fn a_reload_that_makes_grants_overlap_or_outputs_lie_in_them_is_refused_as_a_whole() {
    let dir = folder();
    let before = format!("[server]\nenabled = false\n{}", plugin("a", &["+rw"]));
    let host = Host::builder().config_file(write(dir.path(), &before)).start().await.unwrap();
    for (added, expected) in [
        (plugin("b", &["rw/sub"]), "overlaps rw of publishers.a"),
        (
            "[publishers.b]\ntype = \"file\"\npath = \"rw/link\"\n".to_owned(),
            "where the plugin of publishers.a may write",
        ),
    ] {
        write(dir.path(), &(before.clone() + &added));
        let refused = host.reload().await.unwrap_err();
        assert!(matches!(refused, ReloadError::Config(_)), "{refused}");
        assert!(refused.to_string().contains(expected), "{refused}");
        assert!(host.publishers().iter().all(|publisher| &*publisher.label != "b"));
    }
    assert_eq!(std::fs::read_to_string(dir.path().join("outside/file")).unwrap(), "text");
    host.shutdown(std::time::Duration::ZERO).await;
}
