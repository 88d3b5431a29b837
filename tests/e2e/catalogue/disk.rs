//! The run folder can't be written: line 5. Also what is to become of a full disk as a whole.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;

use nix::unistd::geteuid;
use serde_json::Value;

use antimony_host::client::AckError;

use crate::ONE_NODE;
use crate::harness::{Client, Place, Server, ServerBuilder, User, leave_out};

/// A deploy fails with 5000 and the reason, the lab is failed, the server lives, and once `mend` has been called
/// everything works again.
async fn fails_and_recovers(server: &mut Server, words: &str, break_it: impl FnOnce(), mend: impl FnOnce()) {
    let admin = server.admin().await;
    let lab = admin.create_lab("course", ONE_NODE).await;
    break_it();
    match admin.deploy(&lab).await {
        Err(AckError::Refused { code: 5000, message }) => {
            assert!(message.contains("run folder") && message.contains(words), "{message}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(admin.state(&lab).await, Some(3), "failed");
    let log = admin.log(&lab).await;
    assert!(log.iter().any(|line| line.contains(words)), "{log:?}");
    assert!(server.is_alive());
    mend();
    works(&admin, &lab).await;
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

async fn works(admin: &Client, lab: &str) {
    assert_eq!(admin.deploy(lab).await, Ok(Value::Null), "a failed lab may be deployed again");
    assert_eq!(admin.destroy(lab).await, Ok(Value::Null));
    assert_eq!(admin.state(lab).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_folder_that_has_gone_fails_the_deploy_with_the_reason_and_the_server_lives() {
    if !User::Myself.can_run_labs("a run folder that has gone") {
        return;
    }
    let mut server = Server::start().await;
    let run = server.place().data().join("run");
    let in_the_way = || {
        fs::remove_dir_all(&run).unwrap();
        fs::write(&run, "a file").unwrap();
    };
    let mend = || fs::remove_file(&run).unwrap();
    fails_and_recovers(&mut server, "can't be made", in_the_way, mend).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_folder_without_permission_fails_the_deploy_with_the_reason_and_the_server_lives() {
    // Root may write everywhere.
    if !User::Ordinary.can_run_labs("a run folder without permission") {
        return;
    }
    let mut server = ServerBuilder::new(User::Ordinary).start().await;
    let run = server.place().data().join("run");
    let mode = |mode| fs::set_permissions(&run, fs::Permissions::from_mode(mode)).unwrap();
    fails_and_recovers(&mut server, "denied", || mode(0o500), || mode(0o700)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_under_the_run_folder_fails_the_deploy_with_the_reason_and_the_server_lives() {
    let test = "a full disk under the run folder";
    if !geteuid().is_root() {
        return leave_out(test, "only root can mount a small disk");
    }
    let place = Place::new(User::Myself);
    let run = place.data().join("run");
    fs::create_dir(&run).unwrap();
    // One inode for the disk itself and one for a folder.
    let mount = format!("mount -t tmpfs -o nr_inodes=2 none {} && exec \"$0\" \"$@\"", run.display());
    let mut server = ServerBuilder::at(&place).through(&["unshare", "--mount", "sh", "-c", &mount]).start().await;
    // As the server sees it.
    let full = std::path::PathBuf::from(format!("/proc/{}/root{}/full", server.id(), run.display()));
    fails_and_recovers(
        &mut server,
        "No space left",
        || fs::write(&full, "").unwrap(),
        || fs::remove_file(&full).unwrap(),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_full_altogether_costs_what_needs_it_and_not_the_server() {
    let test = "a disk that is full altogether";
    if !geteuid().is_root() {
        return leave_out(test, "only root can mount a small disk");
    }
    let place = Place::new(User::Myself);
    let mount = format!("mount -t tmpfs -o size=64m none {} && exec \"$0\" \"$@\"", place.data().display());
    let mut server = ServerBuilder::at(&place).through(&["unshare", "--mount", "sh", "-c", &mount]).start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", ONE_NODE).await;
    let root = format!("/proc/{}/root{}", server.id(), place.data().display());
    let full = std::path::Path::new(&root).join("full");
    let mut file = fs::File::create(&full).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    drop(file);
    // Whether it can be deployed without the disk is not the question, but there is an answer, and it names the reason.
    let answer = admin.deploy(&lab).await;
    if let Err(AckError::Refused { code, message }) = &answer {
        assert!(*code == 5000 && !message.is_empty(), "{answer:?}");
        assert_eq!(admin.state(&lab).await, Some(3));
    }
    assert!(admin.api.create_collection("more", true, true).await.is_err(), "what can't be stored isn't said to be");
    assert_eq!(admin.api.get("/labs").await.unwrap().as_array().unwrap().len(), 1);
    assert!(server.is_alive());
    fs::remove_file(&full).unwrap();
    works(&admin, &lab).await;
    admin.api.create_collection("more", true, true).await.unwrap();
    assert!(!server.log().contains("panicked"), "{}", server.log());
}
