//! What the value of a setting is made of, for programs that show settings.

/// A kind of value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueType {
    /// True or false.
    Boolean,
    /// Any text.
    Text,
    /// A whole number of 32 bits.
    Int,
    /// A whole number of 64 bits.
    Long,
    /// Several, with commas between them.
    List,
    /// Something that is never shown.
    Secret,
}
