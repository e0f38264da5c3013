//! Parts of JSON documents of unknown quality: read so that no text and no list is longer in memory than it may be.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeOwned, Error as _, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// The start of a text, at most so many bytes, on one line. Control characters and the ones that reorder text are
/// replaced.
pub(super) fn cleaned(text: &str, most: usize) -> String {
    let mut start = String::new();
    for character in text.trim_start().chars() {
        let shown = match character {
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => '\u{fffd}',
            character if character.is_whitespace() => ' ',
            character if character.is_control() => '\u{fffd}',
            character => character,
        };
        if start.len() + shown.len_utf8() > most {
            break;
        }
        // What breaks a text into lines is one gap.
        if shown != ' ' || !start.ends_with(' ') {
            start.push(shown);
        }
    }
    start.truncate(start.trim_end().len());
    start
}

/// Why a list was refused.
pub(super) fn too_many(what: &str, most: usize) -> String {
    format!("it has more than {most} {what}")
}

/// The start of a text, at most so many bytes, on one line and without control characters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Text<const MOST: usize>(pub(super) String);

impl<'de, const MOST: usize> Deserialize<'de> for Text<MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Start<const MOST: usize>;
        impl<const MOST: usize> Visitor<'_> for Start<MOST> {
            type Value = Text<MOST>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a text")
            }

            fn visit_str<E>(self, text: &str) -> Result<Text<MOST>, E> {
                Ok(Text(cleaned(text, MOST)))
            }
        }
        deserializer.deserialize_str(Start)
    }
}

/// A list that is refused when it is longer.
pub(super) struct Few<T, const MOST: usize>(pub(super) Vec<T>);

impl<'de, T: DeserializeOwned, const MOST: usize> Deserialize<'de> for Few<T, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All<T, const MOST: usize>(PhantomData<T>);
        impl<'de, T: DeserializeOwned, const MOST: usize> Visitor<'de> for All<T, MOST> {
            type Value = Few<T, MOST>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Few<T, MOST>, A::Error> {
                let mut all = Vec::new();
                while let Some(item) = sequence.next_element()? {
                    if all.len() >= MOST {
                        return Err(A::Error::custom(too_many("entries in a list", MOST)));
                    }
                    all.push(item);
                }
                Ok(Few(all))
            }
        }
        deserializer.deserialize_seq(All(PhantomData))
    }
}

/// The first of a list; the others are read over.
pub(super) struct First<T>(pub(super) Option<T>);

impl<'de, T: DeserializeOwned> Deserialize<'de> for First<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct One<T>(PhantomData<T>);
        impl<'de, T: DeserializeOwned> Visitor<'de> for One<T> {
            type Value = First<T>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<First<T>, A::Error> {
                let first = sequence.next_element()?;
                while sequence.next_element::<IgnoredAny>()?.is_some() {}
                Ok(First(first))
            }
        }
        deserializer.deserialize_seq(One(PhantomData))
    }
}
