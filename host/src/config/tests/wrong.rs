//! Wrong configurations, and exactly what is said about each. The type `search` is the one of the tests.

use super::wrong;

/// What is wrong, the text, what is said.
const WRONG: &[(&str, &str, &str)] = &[
    (
        "a key that is nearly right",
        "[journal]\nmax_record = 5",
        r#"pressroom.toml:2:1: journal.max_record: unknown key, did you mean "max_records"?"#,
    ),
    (
        "a key that is like no other",
        "[shutdown]\n\n  colour = 'red'",
        r#"pressroom.toml:3:3: shutdown.colour: unknown key, known are timeout"#,
    ),
    (
        "a section that is nearly right",
        "[jurnal]\nmax_records = 5",
        r#"pressroom.toml:1:2: jurnal: unknown section, did you mean "journal"?"#,
    ),
    (
        "a key outside of any section",
        "listen = '127.0.0.1:80'",
        "pressroom.toml:1:1: listen: no key stands outside of a section, put it under a [SECTION]",
    ),
    (
        "a key of a table in a publisher, written in line",
        "[publishers.search]\ntype = 'search'\nurl = 'u'\nindex = 'i'\nbatch = { max_record = 5 }",
        r#"pressroom.toml:5:11: publishers.search.batch.max_record: unknown key, did you mean "max_records"?"#,
    ),
    (
        "a misspelt key that every publisher has",
        "[publishers.search]\ntype = 'search'\nurl = 'u'\nindex = 'i'\noverflwo = 'block'",
        r#"pressroom.toml:5:1: publishers.search.overflwo: unknown key, did you mean "overflow"?"#,
    ),
    (
        "a misspelt key of a type's own, and what is missing therefore",
        "[publishers.search]\ntype = 'search'\nurl = 'u'\nindx = 'i'",
        "pressroom.toml:1:13: publishers.search.index: is missing\n\
         pressroom.toml:4:1: publishers.search.indx: unknown key, did you mean \"index\"?",
    ),
    (
        "everything that is missing",
        "[publishers.search]\ntype = 'search'\ndirs = [{ host = 'h' }, {}]",
        "pressroom.toml:1:13: publishers.search.index: is missing\n\
         pressroom.toml:1:13: publishers.search.url: is missing\n\
         pressroom.toml:3:9: publishers.search.dirs[0].guest: is missing\n\
         pressroom.toml:3:25: publishers.search.dirs[1].guest: is missing\n\
         pressroom.toml:3:25: publishers.search.dirs[1].host: is missing",
    ),
    ("no type", "[publishers.search]\nurl = 'u'", "pressroom.toml:1:13: publishers.search.type: is missing"),
    (
        "numbers and words where durations and sizes belong",
        "[reports]\nmax_age = 5\nslow_threshold = 'soon'\n[journal]\nmax_bytes = 'lots'\nmax_records = -1",
        "pressroom.toml:2:11: reports.max_age: expected a duration such as \"10s\", found integer 5\n\
         pressroom.toml:3:18: reports.slow_threshold: expected a duration such as \"10s\", found string \"soon\"\n\
         pressroom.toml:5:13: journal.max_bytes: expected a size such as \"64MiB\", found string \"lots\"\n\
         pressroom.toml:6:15: journal.max_records: expected a whole number, 0 or more, found integer -1",
    ),
    (
        "values of the wrong type",
        "server = 5\n[publishers.a]\ntype = 'search'\nurl = true\nindex = ['i']\nport = 70000\nretry = 'often'",
        "pressroom.toml:1:10: server: expected a table, found integer 5\n\
         pressroom.toml:4:7: publishers.a.url: expected a string, found boolean true\n\
         pressroom.toml:5:9: publishers.a.index: expected a string, found an array\n\
         pressroom.toml:6:8: publishers.a.port: expected a whole number from 0 to 65535, found integer 70000\n\
         pressroom.toml:7:9: publishers.a.retry: expected a table, found string \"often\"",
    ),
    (
        "an array where a table belongs is not taken field by field",
        "[publishers]\na = { type = 'search', url = 'u', index = 'i', batch = [1, '1MiB', '1s'] }",
        "pressroom.toml:2:56: publishers.a.batch: expected a table, found an array",
    ),
    (
        "words that are not among the known",
        "[publishers.a]\ntype = 'search'\nurl = 'u'\nindex = 'i'\noverflow = 'drop'\nfrom = 5\n\
         only = { kind = 'netwrk', status = ['failed', 'pending'], event_name = '' }",
        "pressroom.toml:5:12: publishers.a.overflow: unknown value \"drop\", known are block, drop_oldest\n\
         pressroom.toml:6:8: publishers.a.from: expected \"newest\" or \"oldest\", found integer 5\n\
         pressroom.toml:7:17: publishers.a.only.kind: unknown value \"netwrk\", did you mean \"network\"?\n\
         pressroom.toml:7:47: publishers.a.only.status[1]: unknown value \"pending\", known are cancelled, completed, failed\n\
         pressroom.toml:7:72: publishers.a.only.event_name: expected a pattern such as \"resize*\", found string \"\"",
    ),
    (
        "filters that let nothing through",
        "[publishers.a]\ntype = 'search'\nurl = 'u'\nindex = 'i'\n[publishers.a.only]\nkind = 'network'\n\
         pipeline = 'thumbs'\nstatus = []",
        "pressroom.toml:7:12: publishers.a.only.pipeline: no network operation has it, and kind = \"network\" lets nothing else through: remove pipeline\n\
         pressroom.toml:8:10: publishers.a.only.status: an empty list lets nothing through, remove it or name a status",
    ),
    (
        "lists of patterns and values, and shares",
        "[publishers.a]\ntype = 'search'\nurl = 'u'\nindex = 'i'\n[publishers.a.only]\nevent_name = ['a', 7, '']\n\
         pipeline = []\nattributes = { a = [], b = [1, []], c = {} }\nkeep = 0\n\
         [publishers.b]\ntype = 'search'\nurl = 'u'\nindex = 'i'\nonly = { keep = 1.5, event_name = 7 }\n\
         [publishers.c]\ntype = 'search'\nurl = 'u'\nindex = 'i'\nonly = { keep = '10%' }\n\
         [publishers.d]\ntype = 'search'\nurl = 'u'\nindex = 'i'\nonly = { status = 'failed', keep = 0.1 }",
        "pressroom.toml:6:20: publishers.a.only.event_name[1]: expected a pattern such as \"resize*\", found integer 7\n\
         pressroom.toml:6:23: publishers.a.only.event_name[2]: expected a pattern such as \"resize*\", found string \"\"\n\
         pressroom.toml:7:12: publishers.a.only.pipeline: an empty list lets nothing through, remove it or name a pattern\n\
         pressroom.toml:8:20: publishers.a.only.attributes.a: an empty list lets nothing through, remove it or name a value\n\
         pressroom.toml:8:32: publishers.a.only.attributes.b[1]: expected a string, a number or a boolean, found an array\n\
         pressroom.toml:8:37: publishers.a.only.attributes.c: expected a string, a number or a boolean, or a list of them, found a table\n\
         pressroom.toml:9:8: publishers.a.only.keep: 0 keeps nothing but failures, say status = \"failed\" for that\n\
         pressroom.toml:14:17: publishers.b.only.keep: expected a share above 0 and at most 1, such as 0.1, found float 1.5\n\
         pressroom.toml:14:35: publishers.b.only.event_name: expected a pattern such as \"resize*\", or a list of them, found integer 7\n\
         pressroom.toml:19:17: publishers.c.only.keep: expected a share above 0 and at most 1, such as 0.1, found string \"10%\"\n\
         pressroom.toml:24:36: publishers.d.only.keep: failures are always kept, and status lets nothing else through: remove keep",
    ),
    (
        "nothing and less where something is needed",
        "[recorder]\nmax_pending = 0\n[publishers.a]\ntype = 'search'\nurl = 'u'\nindex = 'i'\ntimeout = '0s'\n\
         batch = { max_records = 0, max_bytes = '0B' }\nretry = { initial = '1m', max = '10s', hold = '0s' }",
        "pressroom.toml:2:15: recorder.max_pending: must be at least 1\n\
         pressroom.toml:7:11: publishers.a.timeout: must be longer than zero\n\
         pressroom.toml:8:25: publishers.a.batch.max_records: must be at least 1\n\
         pressroom.toml:8:40: publishers.a.batch.max_bytes: must be at least 1\n\
         pressroom.toml:9:21: publishers.a.retry.initial: 1m is longer than retry.max, which is 10s\n\
         pressroom.toml:9:47: publishers.a.retry.hold: must be longer than zero",
    ),
    (
        "what is kept of spans",
        "[ingest.otlp]\nresource_attributes = ['region', '']\nevent = true",
        "pressroom.toml:2:34: ingest.otlp.resource_attributes[1]: expected a pattern such as \"resize*\", found string \"\"\n\
         pressroom.toml:3:1: ingest.otlp.event: unknown key, did you mean \"events\"?",
    ),
    (
        "a server that anyone can reach",
        "[server]\nlisten = '0.0.0.0:4680'\nhosts = ['https://pressroom.example']\nmax_body = '100MiB'",
        "pressroom.toml:1:2: server.max_decompressed: 64MiB is less than server.max_body, which is 100MiB\n\
         pressroom.toml:2:10: server.listen: 0.0.0.0:4680 can be reached from other machines: set server.token, or server.allow_without_token = true\n\
         pressroom.toml:3:9: server.hosts: expected host names such as \"pressroom.example\", without a scheme or a path",
    ),
    (
        "an address that is none, and an empty token",
        "[server]\nlisten = 'pressroom.example:80'\ntoken = '${EMPTY}'",
        "pressroom.toml:2:10: server.listen: expected an IP address and a port such as \"127.0.0.1:4680\", found string \"pressroom.example:80\"\n\
         pressroom.toml:3:9: server.token: is empty, remove it or give one",
    ),
    (
        "a short token, OTLP for strangers, and an origin that is none",
        "[server]\nlisten = '[::ffff:127.0.0.1]:4680'\ntoken = 'x'\notlp_listen = 'on'\ncors_origins = ['*']\n",
        "pressroom.toml:3:9: server.token: has fewer than 8 characters, which is guessed too soon: take `openssl rand -hex 16`\n\
         pressroom.toml:4:15: server.otlp_listen: expected an IP address and a port such as \"127.0.0.1:4318\", or \"off\", found string \"on\"\n\
         pressroom.toml:5:16: server.cors_origins: expected origins such as \"https://app.example\" or \"http://localhost:3000\", each in full",
    ),
    (
        "OTLP for strangers beside a server on loopback",
        "[server]\notlp_listen = '0.0.0.0:4318'",
        "pressroom.toml:2:15: server.otlp_listen: 0.0.0.0:4318 can be reached from other machines: set server.token, or server.allow_without_token = true",
    ),
    (
        "labels that are none",
        "[publishers.'a b']\ntype = 'x'\n[publishers]\nc = 5",
        "pressroom.toml:1:13: publishers.\"a b\": a label is 1 to 64 letters, digits, \"_\" and \"-\", rename it\n\
         pressroom.toml:1:13: publishers.\"a b\".index: is missing\n\
         pressroom.toml:1:13: publishers.\"a b\".url: is missing\n\
         pressroom.toml:4:1: publishers.c: expected a section, [publishers.c]",
    ),
    (
        "variables and files that are not there, and say nothing more",
        "[server]\nlisten = '0.0.0.0:1'\ntoken = 'Bearer ${MISSING}'\n[publishers.a]\ntype = 'search'\nurl = '${file:no/such}'\n\
         index = '${TOKEN'\npatience = '${}'",
        "pressroom.toml:3:9: server.token: the environment variable MISSING is not set\n\
         pressroom.toml:6:7: publishers.a.url: the file /etc/pressroom/no/such cannot be read: No such file or directory (os error 2)\n\
         pressroom.toml:7:9: publishers.a.index: \"${\" without \"}\", write \"$${\" for a literal \"${\"\n\
         pressroom.toml:8:12: publishers.a.patience: \"${}\" is neither ${NAME} nor ${file:PATH}, write \"$${\" for a literal \"${\"",
    ),
    (
        "secrets in the wrong place are not quoted",
        "[server]\nlisten = '${TOKEN}'\n[publishers.a]\ntype = 'search'\nurl = 'u'\nindex = 'i'\npatience = '${PIN}'\n\
         overflow = '${TOKEN}'\ntimeout = 's3same-open'",
        "pressroom.toml:2:10: server.listen: expected an IP address and a port such as \"127.0.0.1:4680\", found string \"[redacted]\"\n\
         pressroom.toml:7:12: publishers.a.patience: expected a duration such as \"10s\", found string \"[redacted]\"\n\
         pressroom.toml:8:12: publishers.a.overflow: unknown value \"[redacted]\", known are block, drop_oldest\n\
         pressroom.toml:9:11: publishers.a.timeout: expected a duration such as \"10s\", found string \"[redacted]\"",
    ),
    (
        "what a type says itself, with and without a secret",
        "[publishers.a]\ntype = 'search'\nurl = 'u'\nindex = 'i'\nlevel = 'low'\n\
         [publishers.b]\ntype = 'search'\nurl = 'u'\nindex = 'i'\nlevel = '${PIN}'",
        "pressroom.toml:5:9: publishers.a.level: low is no level, say high\n\
         pressroom.toml:10:9: publishers.b.level: [redacted] is no level, say high",
    ),
    (
        "text that is not TOML, in several places",
        "[journal]\nmax_bytes = = 3\nmax_records = \n[recorder",
        "pressroom.toml:2:13: extra `=`, expected nothing\n\
         pressroom.toml:3:15: string values must be quoted, expected literal string\n\
         pressroom.toml:4:10: unclosed table, expected `]`",
    ),
    (
        "the same thing twice",
        "[journal]\nmax_records = 1\nmax_records = 2\n[publishers.a]\ntype = 'x'\n[publishers.a]",
        "pressroom.toml:3:1: max_records: duplicate key\npressroom.toml:6:13: a: duplicate key",
    ),
    (
        "columns are counted in characters",
        "[publishers.a]\ntype = 'search'\nurl = 'ü'\nindex = 'i'\nretry = { initial = 'müßig', mxa = '1s' }",
        "pressroom.toml:5:21: publishers.a.retry.initial: expected a duration such as \"10s\", found string \"müßig\"\n\
         pressroom.toml:5:30: publishers.a.retry.mxa: unknown key, did you mean \"max\"?",
    ),
];

#[test]
fn what_is_wrong_is_said_all_at_once_and_exactly() {
    let mut differences = String::new();
    for (name, text, expected) in WRONG {
        let said = wrong(text);
        if said != *expected {
            differences += &format!("{name}: expected\n{expected}\nand was told\n{said}\n\n");
        }
    }
    assert!(differences.is_empty(), "{differences}");
}
