//! Which implementation of cryptography TLS has in this process: ring's.
//!
//! Whoever makes a client or a listener that may speak TLS calls [`ready`] first; nothing else is decided here.

use std::sync::Once;

/// Makes TLS usable in this process. Cheap after the first call.
pub(crate) fn ready() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error means that whoever embeds this library has chosen one already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}
