//! Plugins in JavaScript and Python in a whole server: the examples, as an operator would configure them.

use std::path::{Path, PathBuf};

use antimony_host::plugins::config::Entry;
use antimony_host::plugins::{BuildError, PluginHost, PluginsConfig, build, source};
use serde_json::json;

use crate::ONE_NODE;
use crate::harness::{Client, Place, ServerBuilder, User, code_of, expect_data, leave_out};

/// The component of an example: from where CI has just built it, or as it was built last, or built now. `None`: `test` was
/// left out.
fn component(test: &str, name: &str) -> Option<PathBuf> {
    if let Some(built) = std::env::var_os("ANTIMONY_TEST_PLUGINS") {
        return Some(Path::new(&built).join(name).with_extension("wasm"));
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let project = root.join("examples/plugins").join(name);
    // Where the tests of plugins put theirs.
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("languages").join(name).with_extension("wasm");
    std::fs::create_dir_all(out.parent().unwrap()).unwrap();
    let recorded = std::fs::read(&out).ok().and_then(|component| source::recorded(&component));
    if recorded.is_some_and(|digest| digest == source::digest(&project, Some(&root.join("wit"))).unwrap()) {
        return Some(out);
    }
    match build(&project, Some(&out), &mut |_| {}) {
        Ok(_) => Some(out),
        Err(why @ (BuildError::NotInstalled { .. } | BuildError::NoProgram { .. })) => {
            leave_out(test, &why.to_string());
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// A cache in which these components are compiled and configured already. That takes half a minute where it hasn't been
/// done, which is longer than a test waits for a server, and longer than it needs to be done more than once.
async fn cache(plugins: &PluginsConfig) -> PathBuf {
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("languages/server-cache");
    loop {
        let host = PluginHost::load(plugins, &kept, &kept).await.unwrap();
        // What is compiled is written by a thread of its own.
        if host.cache_use().1 == 0 {
            return kept;
        }
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in from.read_dir().unwrap() {
        let (entry, to) = entry.map(|entry| (entry.path(), to.join(entry.file_name()))).unwrap();
        if entry.is_dir() {
            copy(&entry, &to);
        } else {
            std::fs::copy(entry, to).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_of_an_institution_say_who_sees_what_and_messages_come_in_german() {
    let test = "plugins in JavaScript and Python";
    let (Some(groups), Some(german)) = (component(test, "groups-js"), component(test, "german-py")) else { return };
    let place = Place::new(User::Myself);
    let settings = json!({"admins": ["netlab-admins"], "collections": {"cn1-students": "course"}});
    let (groups, german) = (groups.to_str().unwrap(), german.to_str().unwrap());
    let mut plugins = PluginsConfig::default();
    plugins.auth_policy.insert(0, Entry { settings: settings.clone(), ..Entry::new(groups) });
    plugins.status_formatter = vec![Entry::new(german)];
    copy(&cache(&plugins).await, &place.data().join("plugin-cache"));

    let config = json!({"plugins": {
        "auth-policy": [
            {"path": groups, "settings": settings, "instance": "warm"},
            {"path": "builtin:auth-policy"},
        ],
        "status-formatter": [{"path": german}],
    }});
    // JSON is YAML as well.
    let mut server = ServerBuilder::at(&place).config(&config.to_string()).start().await;
    assert!(server.log().contains("`instance: warm`"), "that instances are used again is said: {}", server.log());

    // The administrator logs in at the server itself, without any groups.
    let admin = server.admin().await;
    let lab = admin.create_lab("course", ONE_NODE).await;

    // Others come with tokens that carry their groups; what else these claim doesn't count.
    let with_groups = |id: &str, groups: &[&str]| server.token_with(id, &[("groups", json!(groups))]);
    let student = Client::connect(&server, &with_groups("ada", &["cn1-students", "choir"])).await;
    let chorister = Client::connect(&server, &with_groups("bob", &["choir"])).await;
    let operator = Client::connect(&server, &with_groups("eve", &["netlab-admins"])).await;
    for (who, collections) in [(&student, 1), (&chorister, 0), (&operator, 1)] {
        let seen = who.api.get("/collections").await.unwrap();
        assert_eq!(seen.as_array().unwrap().len(), collections, "{seen}");
        assert_eq!(who.api.lab(&lab).await.is_ok(), collections == 1);
    }
    assert_eq!(code_of(student.deploy(&lab).await), 5403, "it is the administrator's");

    if !User::Myself.can_run_labs(test) {
        return;
    }
    let mut statuses = student.join("/status-messages").await;
    operator.deploy(&lab).await.unwrap();
    let wanted = "Labor lab läuft";
    expect_data(&mut statuses, wanted, |data| data["payload"]["content"] == wanted).await;
    operator.destroy(&lab).await.unwrap();
}
