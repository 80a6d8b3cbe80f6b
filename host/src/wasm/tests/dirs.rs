//! Directories that are granted, over the life of several instances.

use super::Subject;
use std::os::unix::fs::symlink;

#[tokio::test]
async fn every_instance_has_the_directory_that_was_opened_with_its_section() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for name in ["out/sub", "outside/sub"] {
        std::fs::create_dir_all(at(name)).unwrap();
    }
    std::fs::write(at("outside/sub/secret"), "secret").unwrap();
    let section = "config = { do = 'swap-and-trap' }\n\
                   grant.dirs = [{ host = 'out', guest = '/out', write = true }]";
    let mut plugin = Subject::build("hostile", section, dir.path()).await.unwrap();
    // The granted directory itself is replaced while the first instance lives; the next one comes after its trap.
    std::fs::rename(at("out"), at("was")).unwrap();
    symlink("outside", at("out")).unwrap();
    assert_eq!(plugin.publish_when_due().await, Ok(vec![]));
    assert_eq!(std::fs::read_link(at("was/sub")).unwrap().to_str(), Some("../outside"));
    plugin.says("after-swap: denied");
    assert!(plugin.log().iter().all(|line| !line.contains("after-swap: got")), "{:#?}", plugin.log());
    assert_eq!(std::fs::read_dir(at("outside")).unwrap().count(), 1);
    assert_eq!(std::fs::read_dir(at("outside/sub")).unwrap().count(), 1);
}

#[tokio::test]
async fn a_section_is_refused_a_directory_within_one_that_the_plugin_of_another_may_write_to() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("out/sub")).unwrap();
    let section = |host: &str, write: bool| {
        format!(
            "config = {{ do = 'swap-and-trap' }}\n\
             grant.dirs = [{{ host = '{host}', guest = '/x', write = {write} }}]"
        )
    };
    let mut writes = Subject::build("hostile", &section("out", true), dir.path()).await.unwrap();
    for swapped in [false, true] {
        let refused = Subject::build("hostile", &section("out/sub", false), dir.path()).await.err().unwrap();
        assert!(
            format!("{refused:#}").contains("where the plugin of publishers.subject may write"),
            "{refused:#}"
        );
        assert_eq!(dir.path().join("out/sub").is_symlink(), swapped);
        assert_eq!(writes.publish_when_due().await, Ok(vec![]));
    }
}
