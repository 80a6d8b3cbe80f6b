//! Who may know whom.

use crate::source::{Source, root, sources};
use std::collections::BTreeSet;

/// What each room of `host/src` may import of the others. An arrow of host/README.md leads on: who imports the registry may
/// speak of what the registry speaks of.
const ROOMS: &[(&str, &[&str])] = &[
    ("output", &["paths"]),
    ("record", &[]),
    ("paths", &[]),
    ("config", &["output", "paths"]),
    // Of the configuration only what must not be seen in logs; see below.
    ("publisher", &["record", "config"]),
    ("journal", &["record"]),
    ("collector", &["journal", "record"]),
    ("recorder", &["collector", "journal", "record"]),
    ("tracing", &["recorder", "record"]),
    ("listen", &["config"]),
    ("publishers", &["listen", "publisher", "record", "config", "output", "paths"]),
    ("wasm", &["publisher", "record", "config", "output", "paths"]),
    ("delivery", &["journal", "publisher", "record", "config", "output", "paths"]),
    ("registry", &["delivery", "journal", "publisher", "record", "config"]),
    ("report", &["record"]),
    ("ingest", &["record"]),
    (
        "server",
        &["listen", "ingest", "report", "registry", "collector", "recorder", "journal", "record", "config"],
    ),
    ("watch", &[]),
    ("host", EVERYTHING_BELOW_HOST),
    ("cli", EVERYTHING_BELOW_CLI),
    ("main", &["cli"]),
    ("lib", EVERYTHING_BELOW_CLI),
];

const EVERYTHING_BELOW_HOST: &[&str] = &[
    "output",
    "record",
    "paths",
    "config",
    "publisher",
    "journal",
    "collector",
    "recorder",
    "tracing",
    "listen",
    "publishers",
    "wasm",
    "delivery",
    "registry",
    "report",
    "ingest",
    "server",
    "watch",
];

const EVERYTHING_BELOW_CLI: &[&str] = &[
    "output",
    "record",
    "paths",
    "config",
    "publisher",
    "journal",
    "collector",
    "recorder",
    "tracing",
    "listen",
    "publishers",
    "wasm",
    "delivery",
    "registry",
    "report",
    "ingest",
    "server",
    "watch",
    "host",
];

/// A file of `host/src` and the room it is in.
struct Resident {
    room: String,
    source: Source,
}

/// Every file of the host that goes into the product. Tests beside the code may know whom they like.
fn residents() -> Vec<Resident> {
    let all = sources(&root().join("host/src")).into_iter().map(|mut source| {
        let path = source.name.trim_start_matches("host/src/").trim_end_matches(".rs");
        let room = path.split('/').next().unwrap().to_owned();
        if let Some(tests) = source.text.find("#[cfg(test)]\nmod tests {") {
            source.text.truncate(tests);
        }
        Resident { room, source }
    });
    let is_test =
        |name: &str| name.ends_with("/tests.rs") || name.contains("/tests/") || name.ends_with("/samples.rs");
    all.filter(|resident| !is_test(&resident.source.name)).collect()
}

/// The rooms that a file names: in `crate::ROOM`, in `crate::{ROOM, …}`, and in as many `super::` as lead out of its own.
fn imports(resident: &Resident) -> BTreeSet<String> {
    let source = &resident.source;
    let code: String = source.code().map(|(_, line)| format!("{line}\n")).collect();
    let name_at = |at: usize| -> String {
        code[at..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let mut found = BTreeSet::new();
    let out = "super::".repeat(source.name.matches('/').count() - 1);
    for (start, path) in ["crate::", out.as_str()].into_iter().flat_map(|path| code.match_indices(path)) {
        let after = start + path.len();
        if path != "crate::" && code[..start].ends_with("super::") {
            continue;
        }
        if code[after..].starts_with('{') {
            let (mut depth, mut first) = (0, true);
            for (at, c) in code[after..].char_indices() {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' => first = true,
                    c if c.is_alphabetic() && depth == 1 && first => {
                        found.insert(name_at(after + at));
                        first = false;
                    }
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
            }
        } else {
            found.insert(name_at(after));
        }
    }
    let is_room = |name: &String| ROOMS.iter().any(|(room, _)| room == name);
    // A module within the room may be called as another room is: `config/delivery.rs`.
    let is_own = |name: &String| {
        let own = root().join("host/src").join(&resident.room).join(format!("{name}.rs"));
        own.exists() && !code.contains(&format!("crate::{name}"))
    };
    found.retain(|name| is_room(name) && *name != resident.room && !is_own(name));
    found
}

#[test]
fn a_room_imports_only_the_rooms_below_it() {
    let mut seen = 0;
    for resident in residents() {
        let (room, name) = (&resident.room, &resident.source.name);
        let Some((_, allowed)) = ROOMS.iter().find(|(known, _)| known == room) else {
            panic!("{name}: host/README.md knows no room `{room}`");
        };
        for import in imports(&resident) {
            seen += 1;
            assert!(allowed.contains(&import.as_str()), "{name}: `{room}` must not know `{import}`");
        }
    }
    assert!(seen > 30, "the rule looks at nothing: {seen} imports seen");
}

/// Fails if one of `words` stands in a file outside of `rooms`.
fn only_in(rooms: &[&str], words: &[&str]) {
    let mut seen = 0;
    for resident in residents() {
        let mut lines = resident.source.lines_with(words);
        if rooms.contains(&resident.room.as_str()) {
            seen += lines.count();
        } else {
            assert_eq!(lines.next(), None, "{words:?} only in {rooms:?}");
        }
    }
    assert!(seen > 0, "the rule looks at nothing: {words:?} is nowhere in {rooms:?}");
}

/// Fails if one of `words` stands in a file of `rooms`.
fn never_in(rooms: &[&str], words: &[&str]) {
    for resident in residents().iter().filter(|resident| rooms.contains(&resident.room.as_str())) {
        assert_eq!(resident.source.lines_with(words).next(), None, "{words:?} never in {rooms:?}");
    }
}

#[test]
fn wasmtime_only_in_wasm() {
    only_in(&["wasm"], &["wasmtime::", "wasmtime_wasi::", "use wasmtime", "use wasmtime_wasi"]);
}

#[test]
fn axum_only_in_server_and_ingest() {
    only_in(&["server", "ingest"], &["axum::"]);
}

#[test]
fn record_and_publisher_know_no_runtime_no_toml_and_no_axum() {
    never_in(&["record", "publisher"], &["tokio::", "toml::", "axum::"]);
}

#[test]
fn publisher_knows_of_the_configuration_only_what_is_secret() {
    for resident in residents().iter().filter(|resident| resident.room == "publisher") {
        let lines = resident.source.lines_with(&["crate::config"]);
        let other: Vec<_> = lines.filter(|line| !line.ends_with("use crate::config::Secrets;")).collect();
        assert!(other.is_empty(), "{other:?}");
    }
}

#[test]
fn delivery_knows_no_type_of_publisher() {
    let types = [
        "crate::publishers",
        "crate::wasm",
        "PrometheusPublisher",
        "ElasticsearchPublisher",
        "FilePublisher",
        "GrafanaCloudPublisher",
        "LokiPublisher",
        "StdoutPublisher",
        "\"prometheus\"",
        "\"elasticsearch\"",
        "\"file\"",
        "\"grafana-cloud\"",
        "\"loki\"",
        "\"stdout\"",
        "\"wasm\"",
        "\"composite\"",
    ];
    never_in(&["delivery", "journal", "registry"], &types);
}

#[test]
fn no_native_publisher_imports_another() {
    let residents: Vec<_> =
        residents().into_iter().filter(|resident| resident.room == "publishers").collect();
    let publisher = |resident: &Resident| {
        let name = resident.source.name.trim_start_matches("host/src/publishers/").trim_end_matches(".rs");
        name.split('/').next().unwrap().to_owned()
    };
    let publishers: BTreeSet<_> = residents
        .iter()
        .filter(|resident| resident.source.text.contains("PublisherType for"))
        .map(publisher)
        .collect();
    assert!(publishers.len() >= 3, "{publishers:?}");
    for resident in residents.iter().filter(|resident| publishers.contains(&publisher(resident))) {
        let own = publisher(resident);
        for other in publishers.iter().filter(|other| **other != own) {
            let words = [format!("publishers::{other}"), format!("super::{other}::")];
            let words = words.each_ref().map(String::as_str);
            assert_eq!(resident.source.lines_with(&words).next(), None, "`{own}` must not know `{other}`");
        }
    }
}

#[test]
fn only_the_command_prints_and_exits() {
    let words = [
        "println!",
        "print!",
        "eprintln!",
        "eprint!",
        "dbg!",
        "process::exit",
        "process::abort",
        "io::stdout()",
        "io::stderr()",
        "stdout()",
        "stderr()",
    ];
    for resident in residents() {
        // Writing there is what the publisher `stdout` is for.
        let exempt = resident.room == "cli" || resident.source.name == "host/src/publishers/stdout.rs";
        if !exempt {
            assert_eq!(resident.source.lines_with(&words).next(), None, "only `cli` prints and exits");
        }
    }
}
