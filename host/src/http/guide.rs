//! What helps people write topologies: kinds of nodes, and the JSON schema of topology files.

use std::sync::Arc;

use axum::extract::State;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::extract::Caller;
use super::{Answer, Api, Payload, answer};
use crate::topology::devices::Device;

/// A kind of node.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Device)]
pub(super) struct DeviceJson {
    /// As definitions name it.
    kind: String,
    /// As people know it.
    name: String,
    /// What is common to the names of its interfaces, with `$` for the number, such as `eth$`.
    interface_pattern: String,
    /// The number of its first interface.
    interface_start: u32,
}

impl From<&Device> for DeviceJson {
    fn from(device: &Device) -> Self {
        Self {
            kind: device.kind.clone(),
            name: device.name.clone(),
            interface_pattern: device.interface_pattern.clone(),
            interface_start: device.interface_start,
        }
    }
}

/// Kinds of nodes
///
/// And how their interfaces are called.
#[utoipa::path(
    get, path = "/devices", operation_id = "listDevices", tag = "topologies",
    responses((status = 200, description = "The kinds.", body = Payload<Vec<DeviceJson>>)),
)]
pub(super) async fn devices(State(api): State<Api>, _caller: Caller) -> Answer<Vec<DeviceJson>> {
    answer(api.guide.devices().iter().map(DeviceJson::from).collect())
}

/// The schema of definitions
///
/// The JSON schema of topology files, for editors and checks.
#[utoipa::path(
    get, path = "/clab-schema", operation_id = "topologySchema", tag = "topologies", security(()),
    responses((status = 200, description = "The schema.", body = Payload<Object>)),
)]
pub(super) async fn schema(State(api): State<Api>) -> Answer<Arc<Value>> {
    answer(api.guide.schema().await)
}
