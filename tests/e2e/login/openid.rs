//! Logins by OpenID Connect, by a real provider and with cookies as a browser keeps them.

use antimony_host::client::{Api, Connection};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::browser::{Answer, Browser, SITE, query, with_query};
use super::provider::{Provider, SECRET};
use crate::harness::{Place, ServerBuilder, User, eventually, run_program};

/// The claims of a token, read as a browser reads them.
fn claims(token: &str) -> Value {
    use base64::Engine as _;
    let middle = token.split('.').nth(1).expect("a token has three parts");
    serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(middle).unwrap()).unwrap()
}

fn logged_in(answer: &Answer) -> Value {
    assert_eq!(answer.status, StatusCode::FOUND, "{answer:?}");
    claims(answer.cookie("accessToken"))
}

/// Nobody is logged in, and the answer says why in the envelope.
fn refused(answer: &Answer, status: u16, part: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    let said = answer.json();
    assert!(said["code"].is_number() && said["message"].as_str().is_some_and(|said| said.contains(part)), "{said}");
    assert!(!answer.cookies().iter().any(|cookie| cookie.starts_with("accessToken=ey")), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn people_log_in_by_the_provider_and_their_groups_are_their_collections() {
    let Some(provider) = Provider::start("login by OpenID Connect").await else { return };
    let server = provider.server().await;
    let browser = Browser::new(&server.url);
    let config = browser.get("/api/users/login/config").await.json();
    assert_eq!(config["payload"]["openId"]["enabled"], true);
    assert_eq!(config["payload"]["native"]["enabled"], false);

    let to = browser.begin().await;
    assert!(to.starts_with(&provider.issuer), "{to}");
    assert_eq!(query(&to, "redirect_uri"), "http://labs.test/api/users/login/success");
    assert_eq!((query(&to, "code_challenge_method"), query(&to, "scope")), ("S256".to_owned(), "openid".to_owned()));
    let back = browser.through(&to, "ada").await;
    let answer = browser.get(&back).await;
    let ada = logged_in(&answer);
    assert_eq!(answer.location(), "http://labs.test/labs", "the page that it was begun on");
    assert_eq!((&ada["id"], &ada["isAdmin"]), (&json!("openid:ada"), &json!(true)));
    assert_eq!((&ada["name"], &ada["collections"]), (&json!("ada@labs.test"), &json!(["course", "staff"])));
    let cookies = answer.cookies();
    let of = |name: &str| *cookies.iter().find(|cookie| cookie.starts_with(name)).expect(name);
    assert!(of("authToken=").contains("HttpOnly; SameSite=Lax; Path=/; Max-Age=2592000"), "{cookies:?}");
    assert!(of("authOidc=true").contains("SameSite=Lax") && !of("authOidc=true").contains("HttpOnly"), "{cookies:?}");
    assert!(!of("accessToken=").contains("HttpOnly"), "{cookies:?}");
    assert!(of("oidcLogin-").contains("Max-Age=0"), "the login is over: {cookies:?}");

    // It is as good as any login: for REST by cookie, for REST by header, and for sockets.
    assert_eq!(browser.get("/api/collections").await.json(), json!({"payload": []}));
    let token = answer.cookie("accessToken");
    Api::anonymous(&server.url).with_token(token).get("/labs").await.unwrap();
    Connection::open(&server.url).await.unwrap().connect_with_token("/lab-updates", token).await.unwrap();

    // Somebody who is in no group of administrators, in another browser.
    let bob = logged_in(&Browser::new(&server.url).log_in("bob").await);
    assert_eq!(
        (&bob["id"], &bob["isAdmin"], &bob["collections"]),
        (&json!("openid:bob"), &json!(false), &json!(["course"]))
    );
    assert_eq!(bob["name"], "bob", "nobody has said more");
}

#[tokio::test(flavor = "multi_thread")]
async fn several_tabs_log_in_at_once() {
    let Some(provider) = Provider::start("logins in several tabs").await else { return };
    let server = provider.server().await;
    let browser = Browser::new(&server.url);
    let (first, second) = (browser.begin().await, browser.begin().await);
    let (first, second) = (browser.through(&first, "ada").await, browser.through(&second, "ada").await);
    logged_in(&browser.get(&second).await);
    logged_in(&browser.get(&first).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_is_bound_to_its_browser_and_good_once() {
    let Some(provider) = Provider::start("what a login is bound to").await else { return };
    let server = provider.server().await;
    let browser = Browser::new(&server.url);
    let back = browser.through(&browser.begin().await, "ada").await;
    // Somebody else is made to follow the link: they would be logged in as ada.
    refused(&Browser::new(&server.url).get(&back).await, 400, "not begun in this browser");
    // Another state, and none.
    refused(&browser.get(&with_query(&back, "state", "other")).await, 400, "not begun in this browser");
    refused(&browser.get("/api/users/login/success").await, 400, "not begun in this browser");
    refused(&browser.get("/api/users/login/success?code=a&code=b&state=c").await, 400, "not begun in this browser");
    logged_in(&browser.get(&back).await);
    refused(&browser.get(&back).await, 400, "used already");

    // The code of one login is worth nothing in another, even in the same browser.
    let first = browser.through(&browser.begin().await, "ada").await;
    let second = browser.through(&browser.begin().await, "ada").await;
    let mixed = with_query(&second, "code", &query(&first, "code"));
    refused(&browser.get(&mixed).await, 400, "does not take the code");
    // With its cookie kept by somebody who would try it again.
    let to = browser.send(browser.request(Method::GET, "/api/users/login/openid")).await;
    let cookie = to.cookies()[0].split(';').next().unwrap().to_owned();
    let back = browser.through(to.location(), "ada").await;
    logged_in(&browser.get(&back).await);
    let thief = Browser::new(&server.url);
    refused(&thief.send(thief.request(Method::GET, &back).header("cookie", cookie)).await, 400, "used already");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_that_has_expired_is_refused() {
    let Some(provider) = Provider::with("an expired code", json!({"codeSeconds": 1})).await else { return };
    let server = provider.server().await;
    let browser = Browser::new(&server.url);
    let back = browser.through(&browser.begin().await, "ada").await;
    // The provider counts in whole seconds.
    tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
    refused(&browser.get(&back).await, 400, "may have expired");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_provider_says_has_to_be_about_this_login_and_from_it() {
    let Some(provider) = Provider::start("ID tokens that aren't right").await else { return };
    let server = provider.server().await;
    let browser = Browser::new(&server.url);
    // Another nonce than the one that the browser was sent with.
    let to = with_query(&browser.begin().await, "nonce", "another");
    let back = browser.through(&to, "ada").await;
    refused(&browser.get(&back).await, 400, "not valid");
    for wrong in [
        json!({"aud": "another-client"}),
        json!({"aud": ["antimony", "another-client"]}),
        json!({"iss": "http://evil.example"}),
        json!({"exp": 1_000_000_000}),
        json!({"nonce": null}),
        json!({"sub": "bob"}),
        json!({"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"}),
    ] {
        provider.tell(json!({"idToken": wrong})).await;
        refused(&browser.log_in("ada").await, 400, "not valid");
    }
    provider.tell(json!({"idToken": null, "otherKey": true})).await;
    refused(&browser.log_in("ada").await, 400, "not valid");
    provider.tell(json!({"otherKey": false})).await;
    // A link that claims to come from another provider.
    let back = browser.through(&browser.begin().await, "ada").await;
    refused(&browser.get(&with_query(&back, "iss", "http://evil.example")).await, 400, "another provider");
    logged_in(&browser.log_in("ada").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_provider_refuses_is_shown_as_text() {
    let Some(provider) = Provider::start("a login that the provider refuses").await else { return };
    let server = provider.server().await;
    let browser = Browser::new(&server.url);
    let state = query(&browser.begin().await, "state");
    let back = format!("{SITE}/api/users/login/success?state={state}&error=access_denied&error_description=%3Cb%3Eno");
    let page = browser.visit(&back).await;
    assert_eq!(page.status, 400);
    assert!(page.headers["content-type"].to_str().unwrap().starts_with("text/html"), "{page:?}");
    assert!(page.text.contains("&lt;b&gt;no") && page.text.contains("href=\"openid\""), "{}", page.text);
    let state = query(&browser.begin().await, "state");
    refused(
        &browser.get(&format!("/api/users/login/success?state={state}&error=x")).await,
        400,
        "did not log you in: x",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_provider_may_change_its_keys() {
    let Some(provider) = Provider::start("other keys of the provider").await else { return };
    let server = provider.server().await;
    let browser = Browser::new(&server.url);
    logged_in(&browser.log_in("ada").await);
    provider.tell(json!({"rotate": true})).await;
    logged_in(&Browser::new(&server.url).log_in("ada").await);
    provider.tell(json!({"rotate": true})).await;
    assert_eq!(browser.refresh().await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_down_at_the_start_is_used_once_it_is_there() {
    let Some(provider) = Provider::start("a provider that is down at the start").await else { return };
    provider.tell(json!({"down": true})).await;
    let server = provider.server().await;
    let browser = Browser::new(&server.url);
    let config = browser.get("/api/users/login/config").await.json();
    assert_eq!(config["payload"]["openId"]["enabled"], true);
    let answer = browser.get("/api/users/login/openid").await;
    refused(&answer, 503, "can't be reached");
    assert!(answer.headers.contains_key("retry-after"), "{answer:?}");
    let page = browser.visit("/api/users/login/openid").await;
    assert_eq!(page.status, 503);
    assert!(page.text.contains("The OpenID provider can&#39;t be reached"), "{}", page.text);
    provider.tell(json!({"down": false})).await;
    eventually(async || {
        let answer = browser.get("/api/users/login/openid").await;
        if answer.status == StatusCode::FOUND { Ok(()) } else { Err(answer.text) }
    })
    .await;
    logged_in(&browser.log_in("ada").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_refresh_asks_the_provider_who_somebody_is_now() {
    let Some(provider) = Provider::start("refreshing by OpenID Connect").await else { return };
    let place = Place::new(User::Myself);
    let start = || ServerBuilder::at(&place).config(&provider.config()).env("SB_OIDC_SECRET", SECRET).start();
    let mut server = start().await;
    let browser = Browser::new(&server.url);
    logged_in(&browser.log_in("ada").await);
    let ada = async |browser: &Browser| {
        let answer = browser.refresh().await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.json()["payload"], answer.cookie("accessToken"));
        claims(answer.cookie("accessToken"))
    };
    assert_eq!(ada(&browser).await["isAdmin"], true);
    provider.tell(json!({"accounts": {"ada": {"groups": ["other"]}}})).await;
    let now = ada(&browser).await;
    assert_eq!((&now["isAdmin"], &now["collections"]), (&json!(false), &json!(["other"])));

    // Tabs that refresh at the same time: the provider ends everything when a refresh token is used twice.
    let tabs: Vec<_> =
        (0..16).map(|_| browser.clone()).map(|tab| tokio::spawn(async move { tab.refresh().await })).collect();
    for tab in tabs {
        assert_eq!(tab.await.unwrap().status, 200);
    }

    // While it is down nobody learns who somebody is, but the session stays.
    provider.tell(json!({"down": true})).await;
    refused(&browser.refresh().await, 503, "can't be reached");
    provider.tell(json!({"down": false})).await;
    ada(&browser).await;

    // Another server with the same data goes on with it.
    let refresh_token = browser.log_in("ada").await.cookie("authToken").to_owned();
    server.terminate().await;
    let server = start().await;
    let api = Api::anonymous(&server.url);
    api.refresh(&refresh_token).await.unwrap();
    // What is kept of it is of no use to whoever has the database.
    let database = std::fs::read(place.data().join("antimony.db")).unwrap();
    assert!(!database.windows(12).any(|part| part == b"access_token"));

    // Whoever is gone at the provider gets no other token.
    provider.tell(json!({"accounts": {"ada": null}})).await;
    let refusal = async || api.refresh(&refresh_token).await.expect_err("gone").refusal().expect("a status").0;
    assert_eq!(refusal().await, 401);
    provider.tell(json!({"accounts": {"ada": {"groups": ["staff"]}}})).await;
    assert_eq!(refusal().await, 401, "the session has ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_refresh_token_of_the_provider_its_access_token_has_to_do() {
    let options = json!({"refreshTokens": false});
    let Some(provider) = Provider::with("refreshing without a refresh token", options).await else { return };
    let server = provider.server().await;
    let browser = Browser::new(&server.url);
    logged_in(&browser.log_in("bob").await);
    provider.tell(json!({"accounts": {"bob": {"groups": ["staff"]}}})).await;
    assert_eq!(claims(browser.refresh().await.cookie("accessToken"))["isAdmin"], true);
    provider.tell(json!({"denyUserInfo": true})).await;
    refused(&browser.refresh().await, 401, "session has ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn logging_out_ends_the_session_here_and_at_the_provider() {
    let Some(provider) = Provider::start("logging out by OpenID Connect").await else { return };
    let server = provider.server().await;
    let browser = Browser::new(&server.url);
    let refresh_token = browser.log_in("ada").await.cookie("authToken").to_owned();
    assert_eq!(provider.tell(json!({})).await["refreshTokens"], 1);
    let answer = browser.post("/api/users/logout").await;
    assert_eq!(answer.status, 200);
    for name in ["accessToken=;", "authToken=;", "authOidc=;"] {
        assert!(
            answer.cookies().iter().any(|cookie| cookie.starts_with(name) && cookie.contains("Max-Age=0")),
            "{name}"
        );
    }
    // Whoever has kept a copy of the cookie has nothing.
    let refusal = Api::anonymous(&server.url).refresh(&refresh_token).await.expect_err("ended").refusal();
    assert_eq!(refusal.expect("a status").0, 401);
    eventually(async || match &provider.tell(json!({})).await["refreshTokens"] {
        left if *left == 0 => Ok(()),
        left => Err(format!("{left} left")),
    })
    .await;
    assert_eq!(browser.post("/api/users/logout").await.status, 200, "twice is fine");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_ends_on_a_page_of_this_site_only() {
    let Some(provider) = Provider::start("redirects after a login").await else { return };
    let server = provider.server().await;
    let browser = Browser::new(&server.url);
    for foreign in
        ["https://evil.example/", "http://labs.test.evil.example/", "//evil.example", "http://labs.test@evil.example/"]
    {
        let begin = browser.request(Method::GET, "/api/users/login/openid").header("referer", foreign);
        let to = browser.send(begin).await.location().to_owned();
        let back = browser.through(&to, "ada").await;
        // Nor where the way back is said by whoever made the link.
        let more = format!("{back}&redirect=https://evil.example/&return_to=//evil.example");
        let answer = browser.get(&more).await;
        logged_in(&answer);
        assert_eq!(answer.location(), "http://labs.test/", "{foreign}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_in_the_configuration_is_said_when_the_server_starts() {
    let config = "auth:\n  enableOpenId: true\n  openIdIssuer: http://127.0.0.1:1\n  openIdClientId: antimony\n";
    let failed = ServerBuilder::new(User::Myself).config(config).try_start().await.err().expect("not started");
    assert!(failed.output.contains("auth.openIdRedirectHost"), "{}", failed.output);
    let place = Place::new(User::Myself);
    let path = place.data().join("config.yml");
    std::fs::write(&path, config).unwrap();
    let output =
        run_program(&["doctor", "--config", path.to_str().unwrap(), "--data", place.data().to_str().unwrap()]).await;
    assert!(String::from_utf8_lossy(&output.stdout).contains("auth.openIdRedirectHost"), "{output:?}");
}
