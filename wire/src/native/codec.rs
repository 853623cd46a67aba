//! Payloads: encoding into a frame, and decoding with every length checked.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message as _;
use rkyv::api::high::{HighDeserializer, HighSerializer, HighValidator};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::Error as RkyvError;
use rkyv::ser::allocator::ArenaHandle;
use rkyv::ser::{Positional, Writer};
use rkyv::{Archive, Deserialize, Serialize};

use super::messages::{FetchRequest, ProduceRequest};
use super::protobuf::Field;
use super::views::{FetchView, ProduceView};
use super::{ERROR_KIND, Kind, RESPONSE_BIT, Request, Response};
use crate::error::{ErrorCode, WireError};
use crate::frame::{FRAME_HEADER_BYTES, Format, FrameError, FrameHeader, PAYLOAD_HEADER_BYTES};

/// The largest body of a request. Bodies hold names and numbers; the bulk is in attachments. An
/// owned message takes up to about 60 times its protobuf body (empty elements of a list, while the
/// list grows), so this is what bounds the memory that a request can ask for.
pub const MAX_REQUEST_BODY_BYTES: usize = 1024 * 1024;

/// The largest body of a response.
pub const MAX_RESPONSE_BODY_BYTES: usize = 32 * 1024 * 1024;

/// Why a payload was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The payload ends before its own header does.
    #[error("a payload of {0} bytes is too short for its kind and body length")]
    Truncated(usize),
    /// The kind is not in the table.
    #[error("message kind {0:#06x} is not known to protocol version 1")]
    UnknownKind(u16),
    /// The body's length is more than what follows.
    #[error("the body claims {claimed} bytes, the payload has {remaining} left")]
    BodyLength {
        /// What the length field says.
        claimed: u32,
        /// What there is.
        remaining: usize,
    },
    /// The body is over the limit.
    #[error("a body of {bytes} bytes is over the limit of {limit}; ask for less at a time")]
    BodyTooLarge {
        /// The body's length.
        bytes: u32,
        /// The most that is taken.
        limit: usize,
    },
    /// The body is not a valid message.
    #[error("the body is no valid {message}: {reason}")]
    Body {
        /// The message's name.
        message: &'static str,
        /// What the decoder said.
        reason: String,
    },
    /// The lengths in the body do not add up to the attachments.
    #[error("the batches named in the body have {named} bytes, the attachments {attached}")]
    Attachments {
        /// Sum of the lengths in the body.
        named: u64,
        /// Bytes after the body.
        attached: usize,
    },
    /// Another message was expected in this place.
    #[error("a {found} request where a {expected} request was read")]
    WrongKind {
        /// What was to be read.
        expected: &'static str,
        /// What it is.
        found: &'static str,
    },
}

impl From<DecodeError> for WireError {
    fn from(error: DecodeError) -> WireError {
        let code = match error {
            DecodeError::UnknownKind(_) => ErrorCode::UnsupportedVersion,
            DecodeError::BodyTooLarge { .. } => ErrorCode::FrameTooLarge,
            _ => ErrorCode::MalformedFrame,
        };
        WireError::new(code, error.to_string())
    }
}

/// Why a message could not be encoded; `out` is as it was before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The frame would be longer than a frame can be.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The body would be larger than the other side takes.
    #[error("a body of {bytes} bytes is over the limit of {limit}; ask for less at a time")]
    BodyTooLarge {
        /// The body's length.
        bytes: usize,
        /// The most that is taken.
        limit: usize,
    },
    /// The lengths in the message do not add up to the attachments that are to follow.
    #[error("the message names {named} bytes of batches, {attached} are to follow")]
    Attachments {
        /// Sum of the lengths in the message.
        named: u64,
        /// What the caller said would follow.
        attached: usize,
    },
    /// rkyv could not write the message.
    #[error("the message could not be serialised: {0}")]
    Serialise(String),
}

/// Writes a request's frame up to its attachments, of which `attachment_bytes` must follow.
pub fn encode_request(
    format: Format,
    correlation: u32,
    request: &Request,
    out: &mut BytesMut,
    attachment_bytes: usize,
) -> Result<(), EncodeError> {
    let named = request.attachment_bytes();
    let frame = FrameStart {
        kind: request.kind() as u16,
        format,
        correlation,
        named,
    };
    frame.encode(out, attachment_bytes, MAX_REQUEST_BODY_BYTES, |out| {
        request.encode_body(format, out)
    })
}

/// Writes a response's frame up to its attachments, of which `attachment_bytes` must follow.
pub fn encode_response(
    format: Format,
    correlation: u32,
    response: &Response,
    out: &mut BytesMut,
    attachment_bytes: usize,
) -> Result<(), EncodeError> {
    let named = response.attachment_bytes();
    let kind = response
        .kind()
        .map_or(ERROR_KIND, |kind| kind as u16 | RESPONSE_BIT);
    let frame = FrameStart {
        kind,
        format,
        correlation,
        named,
    };
    frame.encode(out, attachment_bytes, MAX_RESPONSE_BODY_BYTES, |out| {
        response.encode_body(format, out)
    })
}

/// What stands before a body.
struct FrameStart {
    kind: u16,
    format: Format,
    correlation: u32,
    named: u64,
}

impl FrameStart {
    fn encode(
        &self,
        out: &mut BytesMut,
        attachment_bytes: usize,
        max_body_bytes: usize,
        body: impl FnOnce(&mut BytesMut) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        if self.named != attachment_bytes as u64 {
            return Err(EncodeError::Attachments {
                named: self.named,
                attached: attachment_bytes,
            });
        }
        let start = out.len();
        let written = self.write(out, attachment_bytes, max_body_bytes, body);
        if written.is_err() {
            out.truncate(start);
        }
        written
    }

    /// The lengths are known only after the body is written, so both headers are filled in last.
    fn write(
        &self,
        out: &mut BytesMut,
        attachment_bytes: usize,
        max_body_bytes: usize,
        body: impl FnOnce(&mut BytesMut) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        let start = out.len();
        let body_start = start + FRAME_HEADER_BYTES + PAYLOAD_HEADER_BYTES;
        out.put_bytes(0, FRAME_HEADER_BYTES + PAYLOAD_HEADER_BYTES);
        body(out)?;
        let bytes = out.len() - body_start;
        if bytes > max_body_bytes {
            return Err(EncodeError::BodyTooLarge {
                bytes,
                limit: max_body_bytes,
            });
        }
        let payload_bytes = PAYLOAD_HEADER_BYTES + bytes + attachment_bytes;
        let header = FrameHeader::for_payload(self.format, self.correlation, payload_bytes)?;
        let mut headers = &mut out[start..body_start];
        headers.put_slice(&header.to_bytes());
        headers.put_u16(self.kind);
        headers.put_u32(bytes as u32);
        Ok(())
    }
}

/// A request whose kind and lengths are known and whose body is not yet read.
#[derive(Debug)]
pub struct RequestPayload {
    /// What it asks for.
    pub kind: Kind,
    /// How the body is encoded, and the response's is to be.
    pub format: Format,
    /// The message.
    pub body: BytesMut,
    /// The batches, one after the other: take each with `split_to`. They share the frame's buffer
    /// but no byte of it with anything else, so offsets may be assigned in place.
    pub attachments: BytesMut,
}

impl RequestPayload {
    /// Splits what follows a frame header into its parts.
    pub fn split(format: Format, mut payload: BytesMut) -> Result<RequestPayload, DecodeError> {
        let (kind, body_bytes) = payload_header(&mut payload, MAX_REQUEST_BODY_BYTES)?;
        let kind = Kind::from_number(kind).ok_or(DecodeError::UnknownKind(kind))?;
        let body = payload.split_to(body_bytes);
        Ok(RequestPayload {
            kind,
            format,
            body,
            attachments: payload,
        })
    }

    /// Reads a produce request, in place where the format allows it. Call before taking the
    /// attachments: their lengths are checked against the body's.
    pub fn produce(&self) -> Result<ProduceView<'_>, DecodeError> {
        self.expect(Kind::Produce)?;
        let view = produce_view(self.format, &self.body)?;
        check_attachments(view.attachment_bytes(), self.attachments.len())?;
        Ok(view)
    }

    /// Reads a produce request and hands out its attachments beside it, to be cut up while the
    /// request is being read.
    pub fn produce_with_batches(
        &mut self,
    ) -> Result<(ProduceView<'_>, &mut BytesMut), DecodeError> {
        self.expect(Kind::Produce)?;
        let RequestPayload {
            body,
            attachments,
            format,
            ..
        } = self;
        let view = produce_view(*format, body)?;
        check_attachments(view.attachment_bytes(), attachments.len())?;
        Ok((view, attachments))
    }

    /// Reads a fetch request, in place where the format allows it.
    pub fn fetch(&self) -> Result<FetchView<'_>, DecodeError> {
        self.expect(Kind::Fetch)?;
        check_attachments(0, self.attachments.len())?;
        Ok(match self.format {
            Format::Rkyv => FetchView::in_place(access::<FetchRequest>(&self.body)?),
            Format::Protobuf => FetchView::owned(decode_body(self.format, &self.body)?),
        })
    }

    /// Reads any request into an owned message.
    pub fn decode(&self) -> Result<Request, DecodeError> {
        let request = Request::decode_body(self.kind, self.format, &self.body)?;
        check_attachments(request.attachment_bytes(), self.attachments.len())?;
        Ok(request)
    }

    fn expect(&self, expected: Kind) -> Result<(), DecodeError> {
        if self.kind == expected {
            return Ok(());
        }
        Err(DecodeError::WrongKind {
            expected: expected.name(),
            found: self.kind.name(),
        })
    }
}

fn produce_view(format: Format, body: &[u8]) -> Result<ProduceView<'_>, DecodeError> {
    Ok(match format {
        Format::Rkyv => ProduceView::in_place(access::<ProduceRequest>(body)?),
        Format::Protobuf => ProduceView::owned(decode_body(format, body)?),
    })
}

/// Reads a request and returns it with its attachments.
pub fn decode_request(
    format: Format,
    payload: BytesMut,
) -> Result<(Request, BytesMut), DecodeError> {
    let payload = RequestPayload::split(format, payload)?;
    Ok((payload.decode()?, payload.attachments))
}

/// Reads a response and returns it with its attachments.
pub fn decode_response(
    format: Format,
    mut payload: Bytes,
) -> Result<(Response, Bytes), DecodeError> {
    let mut head = &payload[..];
    let response = decode_response_head(format, &mut head)?;
    let attachments = payload.split_off(payload.len() - head.len());
    check_attachments(response.attachment_bytes(), attachments.len())?;
    Ok((response, attachments))
}

/// Reads a response up to its attachments, whether or not these are there yet: for a reader that
/// takes them as they come. What `payload` is left with is the beginning of the attachments.
pub fn decode_response_head(format: Format, payload: &mut &[u8]) -> Result<Response, DecodeError> {
    let (number, body_bytes) = payload_header(payload, MAX_RESPONSE_BODY_BYTES)?;
    let kind = match number {
        ERROR_KIND => None,
        _ if number & RESPONSE_BIT == 0 => return Err(DecodeError::UnknownKind(number)),
        _ => match Kind::from_number(number & !RESPONSE_BIT) {
            Some(kind) => Some(kind),
            None => return Err(DecodeError::UnknownKind(number)),
        },
    };
    let (body, rest) = payload.split_at(body_bytes);
    *payload = rest;
    Response::decode_body(kind, format, body)
}

/// Takes the kind and the body's length, which is at most what remains.
fn payload_header(payload: &mut impl Buf, limit: usize) -> Result<(u16, usize), DecodeError> {
    if payload.remaining() < PAYLOAD_HEADER_BYTES {
        return Err(DecodeError::Truncated(payload.remaining()));
    }
    let (kind, claimed) = (payload.get_u16(), payload.get_u32());
    let remaining = payload.remaining();
    if claimed as usize > remaining {
        return Err(DecodeError::BodyLength { claimed, remaining });
    }
    if claimed as usize > limit {
        return Err(DecodeError::BodyTooLarge {
            bytes: claimed,
            limit,
        });
    }
    Ok((kind, claimed as usize))
}

fn check_attachments(named: u64, attached: usize) -> Result<(), DecodeError> {
    if named == attached as u64 {
        return Ok(());
    }
    Err(DecodeError::Attachments { named, attached })
}

/// A message of the native protocol: what both encodings need of it.
pub(super) trait Message:
    Sized
    + Field<Self::Schema>
    + Archive<
        Archived: for<'v> CheckBytes<HighValidator<'v, RkyvError>>
                      + Deserialize<Self, HighDeserializer<RkyvError>>,
    > + for<'o, 'a> Serialize<HighSerializer<BodyWriter<'o>, ArenaHandle<'a>, RkyvError>>
{
    /// The message's name.
    const NAME: &'static str;
    /// The same message as the protobuf schema has it.
    type Schema: prost::Message + Default;
}

pub(super) fn encode_body<M: Message>(
    format: Format,
    message: &M,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    match format {
        Format::Rkyv => {
            let writer = BodyWriter {
                start: out.len(),
                out,
            };
            rkyv::api::high::to_bytes_in::<_, RkyvError>(message, writer)
                .map_err(|error| EncodeError::Serialise(error.to_string()))?;
            Ok(())
        }
        Format::Protobuf => message.to_schema().encode(out).map_err(|error| {
            // The buffer grows, so there is always room.
            EncodeError::Serialise(error.to_string())
        }),
    }
}

pub(super) fn decode_body<M: Message>(format: Format, body: &[u8]) -> Result<M, DecodeError> {
    match format {
        Format::Rkyv => rkyv::api::high::deserialize::<M, RkyvError>(access::<M>(body)?)
            .map_err(broken_body::<M>),
        Format::Protobuf => {
            let message = M::Schema::decode(body).map_err(broken_body::<M>)?;
            M::from_schema(message, M::NAME).map_err(broken_body::<M>)
        }
    }
}

fn broken_body<M: Message>(reason: impl ToString) -> DecodeError {
    DecodeError::Body {
        message: M::NAME,
        reason: reason.to_string(),
    }
}

/// Checks a whole rkyv body (bounds, overlaps, UTF-8, discriminants) and reads it in place. Our
/// messages hold no shared pointers and do not nest in themselves, so the depth is the type's.
fn access<M: Message>(body: &[u8]) -> Result<&M::Archived, DecodeError> {
    rkyv::access::<M::Archived, RkyvError>(body).map_err(broken_body::<M>)
}

/// Lets rkyv write behind what is already in a buffer, with positions counted from the body's
/// start.
pub(super) struct BodyWriter<'o> {
    out: &'o mut BytesMut,
    start: usize,
}

impl Positional for BodyWriter<'_> {
    fn pos(&self) -> usize {
        self.out.len() - self.start
    }
}

impl<E> Writer<E> for BodyWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), E> {
        self.out.extend_from_slice(bytes);
        Ok(())
    }
}
