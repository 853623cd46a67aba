//! The full exchange as a byte stream: frames in order, each authenticated, in chunks of bounded
//! size, so that no cluster is too large for it and no buffer grows with the cluster.
//!
//! ```text
//! opener                              acceptor
//!   Hello (errand, life, nonce a)   →
//!                                   ←   Welcome (life, nonce b; its code covers a)
//!   Confirm (its code covers a, b)  →
//!                                   ←   Chunk, Chunk, … last Chunk
//!   Chunk, Chunk, … last Chunk      →
//! ```
//!
//! The opener's state goes last: a node that lost its disk then hears of its earlier lives before
//! it says anything of itself. After Welcome and Confirm each side knows that the other one's life
//! is running now, so its datagrams are trusted too. An errand may be a mere ping: it ends with the
//! Welcome, which proves that the acceptor lives.
//!
//! This folder knows frames and phases. What is in a chunk and what it changes is the node's.

mod frame;
mod stream;

pub(crate) use frame::MAX_CHUNK_BYTES;
pub(crate) use stream::{Cursor, Errand, Identity, Step, Stream};
