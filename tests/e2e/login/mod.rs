//! How people log in: by an OpenID provider, as local users, and what keeps others from doing so in their name.

pub(crate) mod browser;
mod edge;
mod local_users;
mod openid;
pub(crate) mod provider;
mod sessions;
