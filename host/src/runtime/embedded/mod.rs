//! Linux namespaces as a runtime.
