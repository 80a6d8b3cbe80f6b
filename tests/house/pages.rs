//! What the pages say leads somewhere.

use crate::source::{files, name, root};
use std::path::Path;

/// The targets of the links on a page, but for what stands in code.
fn links(text: &str) -> Vec<(usize, String)> {
    let (mut found, mut in_code) = (Vec::new(), false);
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
        for part in prose.split("](").skip(1) {
            let target = part.split([')', ' ']).next().unwrap_or_default();
            found.push((number + 1, target.to_owned()));
        }
    }
    found
}

#[test]
fn every_relative_link_leads_to_a_file() {
    let mut seen = 0;
    for page in files(&root(), "md") {
        let text = std::fs::read_to_string(&page).unwrap();
        for (line, target) in links(&text) {
            if target.contains("://") || target.starts_with("mailto:") || target.starts_with('#') {
                continue;
            }
            let path = target.split('#').next().unwrap_or_default();
            seen += 1;
            let there = page.parent().unwrap_or(Path::new("")).join(path);
            assert!(there.exists(), "{}:{line}: {target} is not there", name(&page));
        }
    }
    assert!(seen > 0, "the rule looks at nothing");
}
