//! What travels beside a message's body: names and values.

use std::fmt;
use std::sync::Arc;

use bytes::BufMut;

use crate::error::{Error, Result};

/// Properties of one message may take this many bytes on the wire.
pub const MAX_PROPERTIES: usize = 60 << 10;

/// Names and values that travel beside a message's body (MDPX only; MDP/0.1 and 0.2 have no place for them).
///
/// A name is 1 to 255 bytes of text without control characters, a value is up to 65,535 bytes of anything, and all of
/// them together take at most 60 KiB. Applications choose names of their own beside those named here. Cloning is cheap.
///
/// ```
/// use majordomo::Properties;
/// # fn main() -> majordomo::Result<()> {
/// let mut properties = Properties::new();
/// properties.set(Properties::CONTENT_TYPE, "application/json")?;
/// assert_eq!(properties.text("content-type"), Some("application/json"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Properties {
    /// As on the wire: for each property `u8` length, name, `u16` length, value. `None` where there are none, as with most
    /// messages.
    block: Option<Arc<[u8]>>,
}

impl Properties {
    /// The application's own key of a request: repeats of a key are answered by a worker that keeps outcomes without
    /// running the handler again.
    pub const IDEMPOTENCY_KEY: &'static str = "idempotency-key";
    /// The media type of the body.
    pub const CONTENT_TYPE: &'static str = "content-type";
    /// The W3C trace context.
    pub const TRACEPARENT: &'static str = "traceparent";

    /// No properties.
    pub const fn new() -> Self {
        Properties { block: None }
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.block.is_none()
    }

    /// The number of properties.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Sets a property, in the place of one of the same name.
    ///
    /// # Errors
    /// `InvalidArgument` for a name that is not 1 to 255 bytes of text without control characters, for a value over 65,535 bytes,
    /// and where all together would take more than 60 KiB.
    pub fn set(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<()> {
        let value = value.as_ref();
        let (Ok(name_len), Ok(value_len)) = (u8::try_from(name.len()), u16::try_from(value.len())) else {
            return Err(Error::invalid(format!("property {name:?}: at most 255 bytes of name, 65,535 of value")));
        };
        if name.is_empty() || name.chars().any(char::is_control) {
            return Err(Error::invalid(format!("property {name:?}: a name is text without control characters")));
        }
        let mut block = Vec::with_capacity(self.block().len() + 3 + name.len() + value.len());
        for (other, kept) in self.iter().filter(|(other, _)| *other != name) {
            put(&mut block, other, kept);
        }
        block.put_u8(name_len);
        block.put_slice(name.as_bytes());
        block.put_u16(value_len);
        block.put_slice(value);
        if block.len() > MAX_PROPERTIES {
            return Err(Error::invalid(format!(
                "property {name:?}: all properties together exceed {MAX_PROPERTIES} bytes"
            )));
        }
        self.block = Some(block.into());
        Ok(())
    }

    /// The value of the property of this name.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|(other, _)| *other == name).map(|(_, value)| value)
    }

    /// The value of the property of this name, where it is text.
    pub fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.get(name)?).ok()
    }

    /// The names and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let mut rest = self.block();
        std::iter::from_fn(move || {
            let (name, value, behind) = split_first(rest)?;
            rest = behind;
            Some((name, value))
        })
    }

    /// Properties as they are on the wire, or the reason why they are none.
    pub(crate) fn from_block(block: &[u8]) -> std::result::Result<Self, &'static str> {
        check(block)?;
        Ok(Properties { block: (!block.is_empty()).then(|| block.into()) })
    }

    /// The properties as they are on the wire; empty where there are none.
    pub(crate) fn block(&self) -> &[u8] {
        self.block.as_deref().unwrap_or_default()
    }
}

/// Whether these bytes are a block of properties.
pub(crate) fn check(block: &[u8]) -> std::result::Result<(), &'static str> {
    if block.len() > MAX_PROPERTIES {
        return Err("properties of more than 60 KiB");
    }
    let mut rest = block;
    while !rest.is_empty() {
        rest = split_first(rest).ok_or("a property that is cut short or whose name is no text")?.2;
    }
    Ok(())
}

/// The first property of a block, and the rest.
fn split_first(block: &[u8]) -> Option<(&str, &[u8], &[u8])> {
    let (&length, rest) = block.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(length))?;
    let name = std::str::from_utf8(name).ok().filter(|name| !name.is_empty() && !name.chars().any(char::is_control))?;
    let (length, rest) = rest.split_first_chunk::<2>()?;
    let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    Some((name, value, rest))
}

/// Appends a property whose lengths are known to fit.
fn put(block: &mut Vec<u8>, name: &str, value: &[u8]) {
    block.put_u8(name.len() as u8);
    block.put_slice(name.as_bytes());
    block.put_u16(value.len() as u16);
    block.put_slice(value);
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|(name, value)| (name, String::from_utf8_lossy(value)))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_property_is_replaced_by_one_of_the_same_name_and_order_is_kept() {
        let mut properties = Properties::new();
        for (name, value) in [("a", "1"), ("b", "2"), ("a", "3")] {
            properties.set(name, value).unwrap();
        }
        assert_eq!(properties.iter().collect::<Vec<_>>(), [("b", &b"2"[..]), ("a", &b"3"[..])]);
        assert_eq!((properties.len(), properties.text("a"), properties.get("c")), (2, Some("3"), None));
    }

    #[test]
    fn names_and_values_that_do_not_fit_are_refused_and_change_nothing() {
        let mut properties = Properties::new();
        properties.set("kept", "x").unwrap();
        let long = "n".repeat(256);
        for (name, size) in [("", 1), ("new\nline", 1), (long.as_str(), 1), ("big", 65_536), ("sum", 61_440)] {
            assert!(properties.set(name, vec![0; size]).is_err(), "{name:?}");
        }
        assert_eq!(properties.len(), 1);
    }

    #[test]
    fn any_bytes_are_properties_or_a_reason_why_not() {
        let mut properties = Properties::new();
        properties.set("name", "value").unwrap();
        let block = properties.block();
        assert_eq!(Properties::from_block(block), Ok(properties.clone()));
        for cut in 1..block.len() {
            assert!(Properties::from_block(&block[..cut]).is_err(), "cut to {cut}");
        }
        assert!(Properties::from_block(&[0, 0, 0]).is_err(), "an empty name");
        assert!(Properties::from_block(&[1, 0xff, 0, 0]).is_err(), "a name that is no text");
    }
}
