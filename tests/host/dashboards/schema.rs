//! Grafana's dashboard against the types that Grafana publishes, checked by TypeScript.

use super::file;
use crate::support::servers::installed;
use crate::support::{path_of, root, skipped};
use std::path::Path;
use std::process::Command;

/// What TypeScript says against `dashboard`; nothing if it is of the type.
fn checked(modules: &Path, dashboard: &str) -> String {
    // Beside the modules, where TypeScript looks for them.
    let folder = tempfile::tempdir_in(modules).unwrap();
    let schema = std::fs::read_to_string(root().join("tests/grafana/schema.ts")).unwrap();
    std::fs::write(
        folder.path().join("dashboard.ts"),
        format!("{schema}export const it: Pressroom = {dashboard}"),
    )
    .unwrap();
    let options = serde_json::json!({ "files": ["dashboard.ts"], "compilerOptions": {
        "noEmit": true, "strict": true, "skipLibCheck": true, "module": "esnext", "moduleResolution": "bundler", "target": "es2022",
        "types": [],
    } });
    std::fs::write(folder.path().join("tsconfig.json"), options.to_string()).unwrap();
    let mut command = Command::new("node");
    command.arg(modules.join("node_modules/typescript/bin/tsc")).arg("--project").arg(folder.path());
    let output = command.current_dir(folder.path()).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.success(), said.is_empty(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

#[test]
fn grafanas_own_types_take_the_dashboard() {
    let Some(modules) = installed("grafana-schema").filter(|_| path_of("node").is_some()) else {
        return skipped("Grafana's schema is not installed, or node");
    };
    let dashboard = file("grafana/pressroom.json");
    assert_eq!(checked(&modules, &dashboard), "");
    // And they do not take what is wrong: in a panel's options, in its fields, in a variable, in a query.
    for (right, wrong) in [
        ("\"sort\": \"desc\"", "\"sort\": \"descending\""),
        ("\"legendFormat\": ", "\"legend\": "),
        ("\"type\": \"heatmap\"", "\"type\": \"heat-map\""),
        ("\"fillOpacity\": ", "\"opacity\": "),
        ("\"refresh\": 2", "\"refresh\": \"2\""),
        ("\"schemaVersion\": 42", "\"schemaVersion\": \"42\""),
    ] {
        assert!(dashboard.contains(right), "{right}");
        assert_ne!(checked(&modules, &dashboard.replacen(right, wrong, 1)), "", "{wrong} is taken");
    }
}
