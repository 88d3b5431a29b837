//! How people log in: by an OpenID provider, as local users, and what keeps others from doing so in their name.

mod browser;
mod edge;
mod local_users;
mod openid;
mod provider;
mod sessions;
