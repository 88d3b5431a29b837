//! `antimony-host`: a server for network labs that hands its decisions to WebAssembly components.
//!
//! # Where things are
//!
//! | module | owns | knows |
//! |---|---|---|
//! | [`server`] | start, wiring, ordered shutdown | everything |
//! | [`cli`], `admin` | the commands | `server`, `client` |
//! | [`config`] | the configuration file and its defaults | |
//! | [`auth`] | keys, tokens, identities, logins by password and OpenID Connect | `store` |
//! | [`topology`] | containerlab's topology format | |
//! | [`guide`] | what helps people write topologies: kinds of nodes, JSON schema | `topology`, `config` |
//! | [`store`] | what survives a restart, in SQLite or PostgreSQL | `labs::model` |
//! | [`history`] | append-only logs that many readers follow | |
//! | [`runtime`] | the driver trait; its drivers `embedded` and `containerlab` (with `docker`), and which is taken (`choose`) | `topology`, `labs::model` |
//! | [`labs`] | lifecycle, one task per lab, what became of them over a restart (`revive`), schedule, capacity, publisher | `store`, `runtime`, `history` |
//! | [`stats`] | what nodes use, sampled while somebody looks | `runtime`, `labs` |
//! | [`shells`] | terminal sessions | `runtime`, `history`, `labs` |
//! | [`captures`] | captures of packets: limits, pcap, the commands that clients show | `runtime`, `labs::model` |
//! | [`plugins`] | the WebAssembly engine and the three hooks | `labs::model`, `auth` |
//! | [`socket`] | the Socket.IO API | all of the above |
//! | [`http`] | the REST API | all of the above but `socket` |
//! | [`import`] | takes over what another Antimony server has | `store`, `topology` |
//! | [`edge`] | connections, TLS, limits, what browsers are told, the web client's files | `socket`'s connections, `http`'s refusals |
//! | [`metrics`] | histograms and counters, the figures of commands | |
//! | `crypto` | which cryptography TLS uses | |
//! | `ctl` | labs from a terminal | `client` |
//! | [`client`] | a Socket.IO and REST client, for `ctl`, `demo` and tests | nothing of the server |
//!
//! # Invariants
//!
//! - Only `socket` and `http` know wire JSON. WIT types stop at `plugins`.
//! - `labs` never emits to a socket: the edges subscribe to its publisher.
//! - `labs`, `shells` and `captures` know the driver trait, never a driver.
//! - Whether a command is valid, whether somebody may do something, and how an event is worded, is decided by
//!   components alone. There is no second way around them.
//! - One task owns each piece of mutable state and is reached through a bounded channel; no lock is held across an
//!   await.

mod admin;
pub mod auth;
pub mod captures;
pub mod cli;
pub mod client;
pub mod config;
mod crypto;
mod ctl;
pub mod demo;
pub mod edge;
pub mod guide;
pub mod history;
pub mod http;
pub mod import;
pub mod labs;
pub mod metrics;
pub mod plugins;
pub mod runtime;
pub mod server;
pub mod shells;
pub mod socket;
pub mod stats;
pub mod store;
pub mod telemetry;
pub mod topology;
