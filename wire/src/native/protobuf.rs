//! Between the owned messages and those that prost generates from `proto/millrace.proto`. The
//! `messages!` macro writes the conversions of a message out of those of its fields, which are
//! here; a field that is missing in the schema, or of another type, does not compile.

/// What prost makes of the schema.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub(super) mod schema {
    include!(concat!(env!("OUT_DIR"), "/millrace.v1.rs"));
}

/// A value that the schema's wider type has room for and ours has not.
#[derive(Debug, thiserror::Error)]
#[error("{field} is {value}, out of its range")]
pub(super) struct OutOfRange {
    field: &'static str,
    value: i64,
}

/// A field that the schema holds as a `P`.
pub(super) trait Field<P>: Sized {
    fn to_schema(&self) -> P;
    fn from_schema(value: P, field: &'static str) -> Result<Self, OutOfRange>;
}

macro_rules! same {
    ($($type:ty),*) => {
        $(impl Field<$type> for $type {
            fn to_schema(&self) -> $type {
                self.clone()
            }

            fn from_schema(value: $type, _: &'static str) -> Result<$type, OutOfRange> {
                Ok(value)
            }
        })*
    };
}

same!(bool, i32, u32, u64, i64, String);

/// Protobuf has no integers of fewer than 32 bits.
macro_rules! narrower {
    ($($type:ty as $wide:ty),*) => {
        $(impl Field<$wide> for $type {
            fn to_schema(&self) -> $wide {
                <$wide>::from(*self)
            }

            fn from_schema(value: $wide, field: &'static str) -> Result<$type, OutOfRange> {
                <$type>::try_from(value).map_err(|_| OutOfRange { field, value: value.into() })
            }
        })*
    };
}

narrower!(u16 as u32, i16 as i32, i8 as i32);

impl<P, T: Field<P>> Field<Vec<P>> for Vec<T> {
    fn to_schema(&self) -> Vec<P> {
        self.iter().map(T::to_schema).collect()
    }

    fn from_schema(values: Vec<P>, field: &'static str) -> Result<Vec<T>, OutOfRange> {
        values
            .into_iter()
            .map(|value| T::from_schema(value, field))
            .collect()
    }
}

impl<P, T: Field<P>> Field<Option<P>> for Option<T> {
    fn to_schema(&self) -> Option<P> {
        self.as_ref().map(T::to_schema)
    }

    fn from_schema(value: Option<P>, field: &'static str) -> Result<Option<T>, OutOfRange> {
        value.map(|value| T::from_schema(value, field)).transpose()
    }
}

/// Protobuf has no optional lists, so the one that we have is in a message of its own.
impl Field<schema::TopicNames> for Vec<String> {
    fn to_schema(&self) -> schema::TopicNames {
        schema::TopicNames {
            names: self.clone(),
        }
    }

    fn from_schema(value: schema::TopicNames, _: &'static str) -> Result<Vec<String>, OutOfRange> {
        Ok(value.names)
    }
}
