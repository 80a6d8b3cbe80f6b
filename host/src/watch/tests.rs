use super::*;

#[tokio::test]
async fn tells_a_change_once_when_it_has_settled() {
    let dir = tempfile::tempdir().unwrap();
    let (config, plugins) = (dir.path().join("pressroom.toml"), dir.path().join("plugins"));
    std::fs::write(&config, "a").unwrap();
    let mut watch = Watch::new(Watched {
        config: Some(config.clone()),
        plugins: Some(plugins.clone()),
        ..Watched::default()
    });
    let debounce = Duration::from_millis(20);

    std::fs::write(&config, "changed").unwrap();
    assert_eq!(watch.changed(debounce).await, Changes { config: true, plugins: false });

    // The directory comes into being, with a plugin; what is no plugin does not count.
    std::fs::create_dir(&plugins).unwrap();
    std::fs::write(plugins.join("readme.txt"), "").unwrap();
    std::fs::write(plugins.join(".hidden.wasm"), "").unwrap();
    std::fs::write(plugins.join("a.wasm"), "").unwrap();
    assert_eq!(watch.changed(debounce).await, Changes { config: false, plugins: true });

    std::fs::remove_file(plugins.join("a.wasm")).unwrap();
    assert_eq!(watch.changed(debounce).await, Changes { config: false, plugins: true });
}

#[tokio::test]
async fn a_whole_plugin_need_not_settle() {
    let dir = tempfile::tempdir().unwrap();
    let mut watch = Watch::new(Watched { plugins: Some(dir.path().to_owned()), ..Watched::default() });
    let plugins = Changes { config: false, plugins: true };
    let never = Duration::from_secs(86_400);
    let told =
        async |watch: &mut Watch| tokio::time::timeout(Duration::from_secs(60), watch.changed(never)).await;
    // Closed by who wrote it, renamed into place, and written over.
    std::fs::write(dir.path().join("a.wasm"), "a").unwrap();
    assert_eq!(told(&mut watch).await, Ok(plugins));
    std::fs::write(dir.path().join("b.part"), "b").unwrap();
    std::fs::rename(dir.path().join("b.part"), dir.path().join("b.wasm")).unwrap();
    assert_eq!(told(&mut watch).await, Ok(plugins));
    std::fs::write(dir.path().join("a.wasm"), "another").unwrap();
    assert_eq!(told(&mut watch).await, Ok(plugins));
    // One that is still open is not told of.
    let mut open = std::fs::File::create(dir.path().join("c.wasm")).unwrap();
    std::io::Write::write_all(&mut open, b"half").unwrap();
    let soon = tokio::time::timeout(Duration::from_millis(300), watch.changed(never)).await;
    assert!(soon.is_err(), "{soon:?}");
    drop(open);
    assert_eq!(told(&mut watch).await, Ok(plugins));
}

#[tokio::test]
async fn what_never_comes_to_rest_holds_up_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("pressroom.toml");
    std::fs::write(&config, "a").unwrap();
    let plugins = Some(dir.path().to_owned());
    let mut watch = Watch::new(Watched { config: Some(config.clone()), plugins, ..Watched::default() });
    std::fs::write(&config, "changed").unwrap();
    let restless = dir.path().join("restless.wasm");
    let write = async {
        let mut open = std::fs::File::create(&restless).unwrap();
        for byte in 0_u64.. {
            std::io::Write::write_all(&mut open, byte.to_string().as_bytes()).unwrap();
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let changes = tokio::select! {
        changes = watch.changed(Duration::from_millis(20)) => changes,
        () = write => unreachable!(),
    };
    // (On a machine that stands still for a moment the restless file may seem to have settled, too.)
    assert!(changes.config);
    // And when it has come to rest it is told of.
    std::fs::write(&restless, "at rest, and longer than any number that was there").unwrap();
    assert_eq!(watch.changed(Duration::from_millis(20)).await, Changes { config: false, plugins: true });
}

#[tokio::test]
async fn what_is_back_as_it_was_has_not_changed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.wasm");
    std::fs::write(&file, "a").unwrap();
    let mut watch = Watch::new(Watched { plugins: Some(dir.path().to_owned()), ..Watched::default() });
    let away = dir.path().join("away");
    std::fs::rename(&file, &away).unwrap();
    std::fs::rename(&away, &file).unwrap();
    std::fs::write(dir.path().join("b.wasm"), "b").unwrap();
    // The two may be told of one after the other: each is whole.
    while watch.seen.plugins.len() < 2 {
        let changes = watch.changed(Duration::from_millis(20)).await;
        assert_eq!(changes, Changes { config: false, plugins: true });
        assert!(watch.seen.plugins.contains_key(&file), "it is not told to have gone");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_that_the_configuration_refers_to_is_a_part_of_it_wherever_a_link_is_swapped() {
    use std::os::unix::fs::symlink;
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for version in ["one", "two"] {
        std::fs::create_dir(at(version)).unwrap();
        std::fs::write(at(version).join("ca.pem"), version).unwrap();
    }
    symlink("one", at("..data")).unwrap();
    symlink("..data/ca.pem", at("ca.pem")).unwrap();
    let referred = Referred::default();
    referred.set([(at("ca.pem"), mark(&at("ca.pem"))), (at("later.pem"), None)].into());
    let mut watch = Watch::new(Watched { referred: referred.clone(), ..Watched::default() });
    let (changed, debounce) = (Changes { config: true, plugins: false }, Duration::from_millis(20));

    symlink("two", at("..new")).unwrap();
    std::fs::rename(at("..new"), at("..data")).unwrap();
    assert_eq!(watch.changed(debounce).await, changed);
    std::fs::write(at("later.pem"), "").unwrap();
    assert_eq!(watch.changed(debounce).await, changed);
    // What was told is not told again; and what was read before it was replaced is.
    let before = mark(&at("later.pem"));
    std::fs::write(at("later.pem"), "changed").unwrap();
    referred.set([(at("later.pem"), before)].into());
    assert_eq!(watch.changed(debounce).await, changed);
    assert!(tokio::time::timeout(Duration::from_millis(100), watch.changed(debounce)).await.is_err());
}
