//! Requests that differ in nothing but their correlation are written once and then copied.

use hashbrown::HashMap;

use super::{Produce, TopicIndex};

/// What makes two produce requests alike.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Shape {
    topic: TopicIndex,
    partition: u32,
    acks: i8,
    batch_bytes: usize,
}

/// Most shapes remembered; sizes drawn at random could be any number.
const MOST_SHAPES: usize = 65_536;

/// Written requests, by their shape.
#[derive(Default)]
pub(super) struct Shapes(HashMap<Shape, Vec<u8>>);

impl Shapes {
    /// Adds a request like this one to `out`; `write` writes one if there was none before.
    pub(super) fn copy(
        &mut self,
        request: &Produce,
        out: &mut Vec<u8>,
        write: impl FnOnce() -> Vec<u8>,
    ) {
        let shape = Shape {
            topic: request.place.topic,
            partition: request.place.partition,
            acks: request.acks,
            batch_bytes: request.batch_bytes,
        };
        if let Some(written) = self.0.get(&shape) {
            out.extend_from_slice(written);
            return;
        }
        let written = write();
        out.extend_from_slice(&written);
        if self.0.len() < MOST_SHAPES {
            self.0.insert(shape, written);
        }
    }
}
