//! Plugins that take all they can get: line 36, as to what is left of it in the host.

use crate::harness::{Figures, Place, ServerBuilder, User};
use crate::plugins::build;

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_back_after_thousands_of_bombs_and_the_next_call_is_none_the_worse() {
    const CALLS: usize = 400;
    let Some(guest) = build("bombs in plugins", "tests/guests/misbehaves").await else { return };
    let place = Place::new(User::Myself);
    {
        let server = ServerBuilder::at(&place).start().await;
        server.admin().await.api.create_collection("course", true, true).await.unwrap();
    }
    for way in ["take-memory", "overflow-stack", "overflow-stack-in-memory", "trap", "answer-a-lot"] {
        let config = format!(
            "plugins:\n  auth-policy:\n    - path: builtin:auth-policy\n    - path: {}\n      settings: {{ authorize: {way} }}\n",
            guest.display()
        );
        let mut server = ServerBuilder::at(&place).env("ANTIMONY_LOG", "off").config(&config).start().await;
        let login = server.api().log_in("admin", "admin").await.unwrap();
        let api = server.api().with_token(&login.access_token);
        let bombs = async |count: usize| {
            for _ in 0..count {
                // Whether somebody may see a collection is a call of the policy.
                assert!(!api.get("/collections").await.is_ok_and(|seen| seen.to_string().contains("course")), "{way}");
            }
        };
        bombs(CALLS / 4).await;
        let before = Figures::of(server.id());
        bombs(CALLS).await;
        let after = Figures::of(server.id());
        assert!(after.memory <= before.memory + (6 << 10), "{way}: before {before:?}, after {after:?}");
        assert!(server.is_alive());
    }
    let server = ServerBuilder::at(&place).start().await;
    assert!(server.admin().await.api.get("/collections").await.unwrap().to_string().contains("course"));
}
