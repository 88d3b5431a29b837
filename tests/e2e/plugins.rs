//! Policy by other components than the bundled ones, in the same program.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::ONE_NODE;
use crate::harness::{Place, ServerBuilder, User, code_of, leave_out, run_program};

/// Builds the plugin in `folder` (from the root of the repository) as its author would, or takes it from where CI has
/// just done so. `None`: `test` was left out.
pub(crate) async fn build(test: &str, folder: &str) -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
    let file = format!("{}.wasm", source.file_name().unwrap().display());
    if let Some(built) = std::env::var_os("ANTIMONY_TEST_PLUGINS") {
        return Some(Path::new(&built).join(file));
    }
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("e2e-plugins");
    std::fs::create_dir_all(&out).unwrap();
    let path = out.join(file);
    let built = run_program(&["plugin", "build", source.to_str().unwrap(), "--out", path.to_str().unwrap()]).await;
    if built.status.success() {
        return Some(path);
    }
    let why = String::from_utf8_lossy(&built.stderr);
    leave_out(test, &format!("{folder} can't be built here: {}", why.trim().replace('\n', " ")));
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn another_policy_component_changes_who_may_deploy() {
    let test = "another policy component";
    if !User::Myself.can_run_labs(test) {
        return;
    }
    let Some(freeze) = build(test, "examples/plugins/deploy-freeze").await else { return };
    let place = Place::new(User::Myself);
    let bundled = "plugins:\n  auth-policy:\n    - path: builtin:auth-policy\n";
    let frozen = format!("{bundled}    - path: {}\n      settings: {FREEZE}\n", freeze.display());
    let lab = {
        let server = ServerBuilder::at(&place).config(bundled).start().await;
        let admin = server.admin().await;
        let lab = admin.create_lab("course", ONE_NODE).await;
        admin.deploy(&lab).await.unwrap();
        admin.destroy(&lab).await.unwrap();
        lab
    };
    {
        let server = ServerBuilder::at(&place).config(&frozen).start().await;
        let admin = server.admin().await;
        let refused = admin.deploy(&lab).await.unwrap_err();
        assert_eq!(refused.code(), Some(5403), "{refused}");
        for word in ["deploy-freeze", "exam week"] {
            assert!(refused.to_string().contains(word), "{word:?} is missing in {refused}");
        }
        assert_eq!(admin.state(&lab).await, None);
        // It has an opinion about deploys, and about nothing else.
        assert_eq!(admin.command(&lab, 5, json!({})).await, Ok(json!([])));
    }
    let server = ServerBuilder::at(&place).config(bundled).start().await;
    let admin = server.admin().await;
    admin.deploy(&lab).await.unwrap();
    admin.destroy(&lab).await.unwrap();
}

/// Settings of the freeze: for everybody.
const FREEZE: &str = "{ reason: exam week }";

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_loops_for_ever_costs_its_command_and_nothing_else() {
    let test = "a policy that loops for ever";
    let Some(looping) = build(test, "tests/guests/authorize-loops").await else { return };
    let place = Place::new(User::Myself);
    let lab = {
        let server = ServerBuilder::at(&place).start().await;
        server.admin().await.create_lab("course", ONE_NODE).await
    };
    let both = format!(
        "plugins:\n  auth-policy:\n    - path: builtin:auth-policy\n    - path: {}\n      settings: {{ on: deploy }}\n",
        looping.display()
    );
    {
        let mut server = ServerBuilder::at(&place).config(&both).start().await;
        let admin = server.admin().await;
        let other = server.member("student", &["course"]).await;
        // It loops for deploys. Others are served meanwhile.
        let stuck = admin.command_in_background(&lab, 0, json!({}));
        for _ in 0..20 {
            assert_eq!(other.command(&lab, 5, json!({})).await, Ok(json!([])));
        }
        let refused = stuck.await.unwrap().unwrap_err();
        assert_eq!(refused.code(), Some(5000), "{refused}");
        assert!(refused.to_string().contains("authorize-loops"), "{refused}");
        assert_eq!(admin.state(&lab).await, None, "nothing has happened");
        assert_eq!(admin.command(&lab, 5, json!({})).await, Ok(json!([])), "and the next one works");
        assert_eq!(code_of(admin.deploy(&lab).await), 5000);
        assert!(server.is_alive());
    }
    let server = ServerBuilder::at(&place).start().await;
    let admin = server.admin().await;
    if User::Myself.can_run_labs(test) {
        assert_eq!(admin.deploy(&lab).await, Ok(Value::Null));
        admin.destroy(&lab).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bundled_plugins_work_the_same_when_built_from_source() {
    let test = "the bundled plugins, built from source";
    let mut config = "plugins:\n".to_owned();
    for name in ["command-validator", "auth-policy", "status-formatter"] {
        let Some(component) = build(test, &format!("plugins/{name}")).await else { return };
        config.push_str(&format!("  {name}:\n    - path: {}\n", component.display()));
    }
    let server = ServerBuilder::new(User::Myself).config(&config).start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", ONE_NODE).await;
    let member = server.member("student", &["course"]).await;
    assert_eq!(code_of(member.deploy(&lab).await), 5403);
    assert_eq!(code_of(admin.command(&lab, 6, json!({})).await), 5422);
    if User::Myself.can_run_labs(test) {
        let mut statuses = admin.join("/status-messages").await;
        admin.deploy(&lab).await.unwrap();
        crate::harness::expect_data(&mut statuses, "a success", |data| data["payload"]["severity"] == 0).await;
        admin.destroy(&lab).await.unwrap();
    }
}
