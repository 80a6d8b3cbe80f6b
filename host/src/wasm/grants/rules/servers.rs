//! How servers read paths, each in its own way, and that none of them reads one that is granted as one that is not.

use super::{Rule, Target};
use http::Method;
use proptest::prelude::*;

/// What a server does with a path, step by step.
type Step = fn(Vec<u8>) -> Vec<u8>;

/// Servers, and what each does before it looks at the segments.
const SERVERS: &[(&str, &[Step])] = &[
    ("plain", &[percent]),
    ("nginx", &[percent, merge]),
    ("tomcat", &[parameters, percent, merge]),
    ("decodes before it cuts parameters", &[percent, parameters]),
    ("cuts parameters twice", &[parameters, percent, parameters, merge]),
    ("decodes twice", &[percent, percent, merge]),
    ("decodes twice and cuts parameters", &[percent, percent, parameters, merge]),
    ("takes over-long letters", &[percent, lenient, merge]),
    ("cuts at a zero", &[percent, zero, merge]),
    ("iis", &[unicode, percent, lenient, best_fit, backslashes, trim]),
    (
        "an old iis",
        &[unicode, percent, lenient, best_fit, unicode, percent, lenient, best_fit, backslashes, trim],
    ),
    ("a proxy that rewrites queries", &[percent, query, merge]),
    (
        "all at once",
        &[
            unicode,
            percent,
            lenient,
            best_fit,
            unicode,
            percent,
            lenient,
            best_fit,
            zero,
            query,
            backslashes,
            parameters,
            trim,
            merge,
        ],
    ),
];

fn hex(digits: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|c| c.is_ascii_hexdigit()))?;
    u32::from_str_radix(text, 16).ok()
}

/// `%HH`; what is none stays.
fn percent(path: Vec<u8>) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), &path[..]);
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..2).filter(|_| *first == b'%').and_then(hex);
        out.push(code.map_or(*first, |code| u8::try_from(code).unwrap()));
        rest = if code.is_some() { &after[2..] } else { after };
    }
    out
}

/// `%uXXXX`.
fn unicode(path: Vec<u8>) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), &path[..]);
    while let Some((first, after)) = rest.split_first() {
        let marked = *first == b'%' && matches!(after.first(), Some(b'u' | b'U'));
        let code = after.get(1..5).filter(|_| marked).and_then(hex).and_then(char::from_u32);
        match code {
            Some(letter) => out.extend(letter.to_string().into_bytes()),
            None => out.push(*first),
        }
        rest = if code.is_some() { &after[5..] } else { after };
    }
    out
}

/// UTF-8 with over-long forms.
fn lenient(path: Vec<u8>) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), &path[..]);
    while let Some((first, after)) = rest.split_first() {
        let more = match first {
            0xc0..=0xdf => 1,
            0xe0..=0xef => 2,
            0xf0..=0xf7 => 3,
            0xf8..=0xfb => 4,
            _ => 0,
        };
        let tail = after.get(..more).unwrap_or_default();
        let code = tail
            .iter()
            .fold(u32::from(*first) & (0x3f >> more), |code, byte| code << 6 | u32::from(*byte & 0x3f));
        match char::from_u32(code).filter(|_| more > 0 && tail.len() == more) {
            Some(letter) => out.extend(letter.to_string().into_bytes()),
            None => out.extend([&[*first], tail].concat()),
        }
        rest = &after[tail.len()..];
    }
    out
}

/// Letters that a code page has not become those that look like them.
fn best_fit(path: Vec<u8>) -> Vec<u8> {
    let fit = |letter: char| match letter {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(letter) - 0xfee0).unwrap(),
        '\u{2024}' | '\u{3002}' | '\u{ff61}' => '.',
        '\u{2044}' | '\u{2215}' => '/',
        '\u{a5}' | '\u{20a9}' | '\u{2216}' | '\u{fe68}' => '\\',
        '\u{37e}' => ';',
        other => other,
    };
    String::from_utf8_lossy(&path).chars().map(fit).collect::<String>().into_bytes()
}

fn backslashes(path: Vec<u8>) -> Vec<u8> {
    path.into_iter().map(|byte| if byte == b'\\' { b'/' } else { byte }).collect()
}

/// Does `change` to each segment.
fn segments(path: &[u8], change: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    path.split(|byte| *byte == b'/').map(change).collect::<Vec<_>>().join(&b'/')
}

fn until(text: &[u8], end: u8) -> Vec<u8> {
    text.iter().copied().take_while(|byte| *byte != end).collect()
}

/// `;jsessionid=…`
fn parameters(path: Vec<u8>) -> Vec<u8> {
    segments(&path, |segment| until(segment, b';'))
}

/// Spaces at both ends, and dots after a name, are no part of it; any number of dots leads up.
fn trim(path: Vec<u8>) -> Vec<u8> {
    segments(&path, |segment| {
        let blank = |byte: &u8| byte.is_ascii_whitespace() || byte.is_ascii_control();
        let start = segment.iter().position(|byte| !blank(byte)).unwrap_or(segment.len());
        let name = &segment[start..];
        let end = name.iter().rposition(|byte| !blank(byte) && *byte != b'.').map_or(0, |last| last + 1);
        match name[..end].is_empty() && name.iter().filter(|byte| **byte == b'.').count() > 1 {
            true => b"..".to_vec(),
            false => name[..end].to_vec(),
        }
    })
}

fn merge(path: Vec<u8>) -> Vec<u8> {
    let mut out = path;
    out.dedup_by(|a, b| (*a, *b) == (b'/', b'/'));
    out
}

fn zero(path: Vec<u8>) -> Vec<u8> {
    until(&path, 0)
}

fn query(path: Vec<u8>) -> Vec<u8> {
    until(&until(&path, b'?'), b'#')
}

/// Whether the server takes `path` for one within `/granted/`.
fn stays(steps: &[Step], path: &str) -> bool {
    // A query is cut off before anything else by every server.
    let path = path.split('?').next().unwrap();
    let read = steps.iter().fold(path.as_bytes().to_vec(), |path, step| step(path));
    let mut within: Vec<&[u8]> = Vec::new();
    for segment in read.split(|byte| *byte == b'/').skip(1) {
        match segment {
            b"." => {}
            b".." => drop(within.pop()),
            name => within.push(name),
        }
    }
    within.first() == Some(&&b"granted"[..])
}

fn granted(path: &str) -> bool {
    let rule = Rule::parse("GET http://a.example/granted/*").unwrap();
    Target::parse(&format!("http://a.example{path}")).is_ok_and(|target| rule.allows(&Method::GET, &target))
}

fn assert_stays(path: &str) {
    if granted(path) {
        for (server, steps) in SERVERS {
            assert!(stays(steps, path), "{path} is granted, and leads out where a server is: {server}");
        }
    }
}

/// What ways out are made of.
const PIECES: &[&str] = &[
    "/",
    ".",
    "..",
    "a",
    " ",
    ";",
    "\\",
    "%",
    "?",
    "%2e",
    "%2E",
    "%2f",
    "%5c",
    "%3b",
    "%20",
    "%00",
    "%09",
    "%25",
    "%252e",
    "%252f",
    "%253b",
    "%25u002e",
    "%c0%ae",
    "%c0%af",
    "%e0%80%ae",
    "%f0%80%80%af",
    "%f8%80%80%80%ae",
    "%u002e",
    "%u002f",
    "%uff0e",
    "%ef%bc%8e",
    "%ef%bc%8f",
    "%e2%80%a4",
    "%e2%88%95",
    "%cd%be",
    "%c2%a5",
    "%C3%BC",
    ":",
    "~",
    "%3f",
    "%23",
    "%7f",
    "%ae",
    "%ff",
    "u002e",
    "2e",
];

#[test]
fn the_ways_out_lead_out_of_one_server_or_another_and_none_is_granted() {
    for out in [
        "/../x",
        "/%2e%2e/x",
        "/..;/x",
        "/..%3b/x",
        "/..%3B/x",
        "/..%253b/x",
        "/.%2e/x",
        "/%252e%252e/x",
        "/..%2fx",
        "/..%5cx",
        "/..\\x",
        "/%c0%ae%c0%ae/x",
        "/%e0%80%ae%e0%80%ae/x",
        "/..%e0%80%afx",
        "/%f0%80%80%ae./x",
        "/%u002e%u002e/x",
        "/..%u2215x",
        "/%uff0e%uff0e/x",
        "/%25u002e./x",
        "/%ef%bc%8e%ef%bc%8e/x",
        "/..%c2%a5x",
        "/..%20/x",
        "/%20../x",
        "/.../x",
        "/..%00/x",
        "/..%3f/x",
        "/..%cd%be/x",
        "//../../x",
        "/a//../../x",
    ] {
        let path = format!("/granted{out}");
        let leads_out = SERVERS.iter().any(|(_, steps)| !stays(steps, &path));
        assert!(leads_out, "{path} leads out of no server here");
        assert!(!granted(&path), "{path} is granted");
    }
}

#[test]
fn no_server_reads_a_granted_path_of_three_pieces_as_one_outside_the_grant() {
    for a in PIECES {
        for b in PIECES {
            for c in PIECES {
                assert_stays(&format!("/granted/{a}{b}{c}/x"));
            }
        }
    }
    assert!(granted("/granted/%C3%BC..a:/x"), "the rule grants nothing");
}

proptest! {
    #[test]
    fn no_server_reads_a_granted_path_as_one_outside_the_grant(
        pieces in prop::collection::vec(prop::sample::select(PIECES), 1..12),
    ) {
        assert_stays(&format!("/granted/{}", pieces.concat()));
    }
}
