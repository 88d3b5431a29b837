//! Engine.IO 4 and Socket.IO 5 to the letter, without a Socket.IO client in between: web sockets and requests are written
//! by hand.
//!
//! The protocols' official suites are written for a server with echoing namespaces. Their cases are tests here, against
//! such a server made of the program's own parts (`servers`): `engine` has those of the transport, `socket` those of
//! the packets in it. `cases` is the table of them all. `program` does to the real program what no client in its right mind
//! does.

mod cases;
mod engine;
mod program;
mod servers;
mod socket;
mod wire;
