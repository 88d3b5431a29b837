//! Logging out of a login by password ends it, whoever has kept its tokens.

use antimony_host::client::{Api, ApiError};

use crate::harness::postgres::{MISSING, Postgres};
use crate::harness::{Place, ServerBuilder, User, eventually, leave_out};

fn status(result: Result<impl Sized, ApiError>) -> u16 {
    result.err().expect("a refusal").refusal().expect("a status").0
}

async fn log_in(api: &Api) -> String {
    api.log_in("admin", "admin").await.unwrap().refresh_token
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_is_worth_nothing_once_somebody_has_logged_out_with_it_and_others_of_theirs_go_on() {
    let place = Place::new(User::Myself);
    let mut server = ServerBuilder::at(&place).start().await;
    let api = server.api();
    // All within one second, in which times in tokens are the same.
    let [here, there] = [log_in(&api).await, log_in(&api).await];
    assert_ne!(here, there);
    api.refresh(&here).await.unwrap();
    api.log_out(Some(&here)).await.unwrap();
    let refused = api.refresh(&here).await.unwrap_err();
    assert!(refused.refusal() == Some((401, 5000)) && refused.to_string().contains("has ended"), "{refused}");
    api.log_out(Some(&here)).await.expect("twice is fine");
    let again = log_in(&api).await;
    api.refresh(&again).await.unwrap();

    // The next server knows all of it.
    server.terminate().await;
    let server = ServerBuilder::at(&place).start().await;
    let api = server.api();
    assert_eq!(status(api.refresh(&here).await), 401);
    for goes_on in [&there, &again] {
        api.refresh(goes_on).await.unwrap();
    }
    // Nobody logs out with what is no token, and nobody else's session ends by it.
    for nothing in [None, Some("x.y.z"), Some("")] {
        api.log_out(nothing).await.unwrap();
    }
    api.refresh(&there).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_database_is_away_nobody_is_told_that_they_have_logged_out_and_nobody_goes_on() {
    let Some(postgres) = Postgres::start() else { return leave_out("logging out without a database", MISSING) };
    let config = format!("database: {}\n", postgres.database().flow());
    let server = ServerBuilder::new(User::Myself).config(&config).start().await;
    let api = server.api();
    let [left, kept] = [log_in(&api).await, log_in(&api).await];
    api.log_out(Some(&left)).await.unwrap();

    postgres.crash();
    eventually(async || match api.refresh(&left).await.unwrap_err().refusal() {
        Some((503, _)) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let refused = api.log_out(Some(&kept)).await.unwrap_err();
    assert!(refused.refusal() == Some((503, 5000)) && refused.to_string().contains("try again with that"), "{refused}");
    assert_eq!(status(api.refresh(&kept).await), 503);
    // Who is on a machine of others leaves no cookies there all the same.
    let request = antimony_host::client::http().post(format!("{}/users/logout", server.url));
    let answer = request.header("cookie", format!("authToken={kept}")).send().await.unwrap();
    let cleared = answer.headers().get_all("set-cookie").iter();
    let cleared = cleared.filter(|cookie| cookie.to_str().unwrap().contains("Max-Age=0")).count();
    assert_eq!((answer.status().as_u16(), cleared), (503, 3));

    tokio::task::block_in_place(|| postgres.run());
    eventually(async || api.refresh(&kept).await.map(drop).map_err(|error| error.to_string())).await;
    assert_eq!(status(api.refresh(&left).await), 401);
    api.log_out(Some(&kept)).await.unwrap();
    assert_eq!(status(api.refresh(&kept).await), 401);
}
