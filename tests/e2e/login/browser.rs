//! A browser, as far as logging in needs one: keeps cookies, follows redirects when it is told to, sends forms.

use reqwest::header::{HeaderMap, LOCATION, SET_COOKIE};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::Value;

/// Where the server is, as its configuration says and the browser shows it; a proxy would pass this on to the server.
pub(crate) const SITE: &str = "http://labs.test";

/// Somebody's browser. It has one jar for all: cookies don't tell ports of a host apart.
#[derive(Clone)]
pub(crate) struct Browser {
    http: reqwest::Client,
    server: String,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
    /// Where it was asked for.
    url: String,
}

impl Answer {
    /// Where it leads.
    pub(crate) fn location(&self) -> &str {
        let to = self.headers.get(LOCATION).unwrap_or_else(|| panic!("no redirect: {self:?}"));
        to.to_str().expect("an address")
    }

    /// The cookies that it sets, as they are written.
    pub(crate) fn cookies(&self) -> Vec<&str> {
        self.headers.get_all(SET_COOKIE).iter().map(|cookie| cookie.to_str().expect("text")).collect()
    }

    /// The value of a cookie that it sets.
    pub(crate) fn cookie(&self, name: &str) -> &str {
        let value = self.cookies().into_iter().find_map(|cookie| cookie.strip_prefix(&format!("{name}=")));
        value.unwrap_or_else(|| panic!("no cookie {name}: {self:?}")).split(';').next().unwrap_or_default()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Browser {
    pub(crate) fn new(server: &str) -> Self {
        let http = antimony_host::client::http_builder().cookie_store(true).redirect(reqwest::redirect::Policy::none());
        Self { http: http.build().expect("a client"), server: server.to_owned() }
    }

    /// A request for an address, or for a path of the site. What is for the site goes to the server.
    pub(crate) fn request(&self, method: Method, url: &str) -> RequestBuilder {
        match url.strip_prefix(SITE).or_else(|| url.starts_with('/').then_some(url)) {
            Some(path) => self.http.request(method, format!("{}{path}", self.server)).header("host", "labs.test"),
            None => self.http.request(method, url),
        }
    }

    pub(crate) async fn send(&self, request: RequestBuilder) -> Answer {
        let response = request.send().await.expect("an answer");
        let (status, headers, url) = (response.status(), response.headers().clone(), response.url().to_string());
        Answer { status, headers, text: response.text().await.expect("a body"), url }
    }

    pub(crate) async fn get(&self, url: &str) -> Answer {
        self.send(self.request(Method::GET, url)).await
    }

    /// As a person who follows a link.
    pub(crate) async fn visit(&self, url: &str) -> Answer {
        self.send(self.request(Method::GET, url).header("accept", "text/html,*/*;q=0.8")).await
    }

    pub(crate) async fn post(&self, url: &str) -> Answer {
        self.send(self.request(Method::POST, url)).await
    }

    /// Begins a login on a page of the site; answers where the provider is to be met.
    pub(crate) async fn begin(&self) -> String {
        let begin = self.request(Method::GET, "/api/users/login/openid").header("referer", format!("{SITE}/labs"));
        let answer = self.send(begin).await;
        assert_eq!(answer.status, StatusCode::FOUND, "{answer:?}");
        answer.location().to_owned()
    }

    /// Goes through the provider's pages, as `name`; answers the address that it sends back to.
    pub(crate) async fn through(&self, provider: &str, name: &str) -> String {
        let mut answer = self.get(provider).await;
        for _ in 0..12 {
            if answer.status.is_redirection() {
                let to = absolute(&answer.url, answer.location());
                if to.starts_with(SITE) {
                    return to;
                }
                answer = self.get(&to).await;
                continue;
            }
            assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
            let action = absolute(&answer.url, between(&answer.text, "action=\"", "\""));
            let prompt = between(&answer.text, "name=\"prompt\" value=\"", "\"").to_owned();
            let form = format!("prompt={prompt}&login={name}&password=any");
            let request =
                self.request(Method::POST, &action).header("content-type", "application/x-www-form-urlencoded");
            answer = self.send(request.body(form)).await;
        }
        panic!("the provider goes on for ever: {answer:?}");
    }

    /// The whole way; answers what the server says in the end.
    pub(crate) async fn log_in(&self, name: &str) -> Answer {
        let back = self.through(&self.begin().await, name).await;
        self.get(&back).await
    }

    pub(crate) async fn refresh(&self) -> Answer {
        self.get("/api/users/login/refresh").await
    }
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    let from = text.find(start).unwrap_or_else(|| panic!("no {start} in {text}")) + start.len();
    let rest = &text[from..];
    &rest[..rest.find(end).expect("an end")]
}

/// An address on a page, from wherever that is.
fn absolute(page: &str, to: &str) -> String {
    let page = reqwest::Url::parse(page).expect("an address");
    page.join(to).expect("an address").into()
}

/// A value of the query of an address.
pub(crate) fn query(url: &str, name: &str) -> String {
    let url = reqwest::Url::parse(url).expect("an address");
    let found = url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
    found.unwrap_or_else(|| panic!("no {name} in {url}"))
}

/// The same address with another value.
pub(crate) fn with_query(url: &str, name: &str, value: &str) -> String {
    let mut url = reqwest::Url::parse(url).expect("an address");
    let others: Vec<_> = url.query_pairs().into_owned().filter(|(key, _)| key != name).collect();
    url.query_pairs_mut().clear().extend_pairs(others).append_pair(name, value);
    url.into()
}
