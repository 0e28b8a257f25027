//! Named texts, read as whatever is asked for: what the parameters of a path stand for, and a query.

use std::borrow::Cow;
use std::iter;
use std::slice;

use serde::de::value::{Error, MapDeserializer, SeqDeserializer};
use serde::de::{Deserializer, Error as _, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

/// Names and values: a struct, a map, or a sequence of pairs.
pub(super) struct Fields<I>(I);

impl<'a, I: Iterator<Item = (Cow<'a, str>, Cow<'a, str>)>> Fields<I> {
    pub(super) const fn new(pairs: I) -> Self {
        Self(pairs)
    }

    fn map(self) -> MapDeserializer<'a, impl Iterator<Item = (Part<'a>, Part<'a>)>, Error> {
        MapDeserializer::new(self.0.map(|(name, value)| (Part(name), Part(value))))
    }
}

impl<'de, I: Iterator<Item = (Cow<'de, str>, Cow<'de, str>)>> Deserializer<'de> for Fields<I> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(self.map())
    }

    /// Pairs, for names that may stand there more than once.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(self.map())
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit_struct tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// What the parameters of a path stand for: a struct or map with their names, a tuple in their order, or
/// the only one's value.
#[derive(Clone, Copy)]
pub(super) struct Params<'a>(pub(super) &'a [(String, String)]);

impl<'a> Params<'a> {
    fn values(self) -> SeqDeserializer<impl Iterator<Item = Part<'a>>, Error> {
        SeqDeserializer::new(self.0.iter().map(|(_, value)| Part::from(value)))
    }

    fn only(self) -> Result<Part<'a>, Error> {
        match self.0 {
            [(_, value)] => Ok(value.into()),
            all => {
                Err(Error::custom(format_args!("the path has {} parameters, not one", all.len())))
            }
        }
    }
}

/// Each asks the only one's value.
macro_rules! of_the_only {
    ($($deserialize:ident)*) => {$(
        fn $deserialize<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.only()?.$deserialize(visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for Params<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        type Pair = (String, String);
        let pair = |(name, value): &'de Pair| (name.into(), value.into());
        let pairs: iter::Map<slice::Iter<'de, Pair>, _> = self.0.iter().map(pair);
        Fields::new(pairs).deserialize_any(visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(self.values())
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Error> {
        if len != self.0.len() {
            let len_here = self.0.len();
            return Err(Error::custom(format_args!(
                "the path has {len_here} parameters, not {len}"
            )));
        }
        visitor.visit_seq(self.values())
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.only()?.deserialize_enum(name, variants, visitor)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    of_the_only! {
        deserialize_bool deserialize_char deserialize_str deserialize_string deserialize_option
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_f32 deserialize_f64
    }

    forward_to_deserialize_any! { bytes byte_buf unit_struct map struct identifier ignored_any }
}

/// One text, read as a number if that is asked for.
struct Part<'a>(Cow<'a, str>);

impl<'a> From<&'a String> for Part<'a> {
    fn from(text: &'a String) -> Self {
        Self(text.into())
    }
}

impl<'de> IntoDeserializer<'de, Error> for Part<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

macro_rules! parsed {
    ($($deserialize:ident $visit:ident)*) => {$(
        fn $deserialize<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            let value = self.0.parse().map_err(|error| {
                Error::custom(format_args!("{:?}: {error}", self.0))
            })?;
            visitor.$visit(value)
        }
    )*};
}

impl<'de> Deserializer<'de> for Part<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Cow::Borrowed(text) => visitor.visit_borrowed_str(text),
            Cow::Owned(text) => visitor.visit_string(text),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_enum(self.0.into_deserializer())
    }

    parsed! {
        deserialize_bool visit_bool
        deserialize_i8 visit_i8
        deserialize_i16 visit_i16
        deserialize_i32 visit_i32
        deserialize_i64 visit_i64
        deserialize_i128 visit_i128
        deserialize_u8 visit_u8
        deserialize_u16 visit_u16
        deserialize_u32 visit_u32
        deserialize_u64 visit_u64
        deserialize_u128 visit_u128
        deserialize_f32 visit_f32
        deserialize_f64 visit_f64
        deserialize_char visit_char
    }

    forward_to_deserialize_any! {
        str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier
        ignored_any
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use serde::Deserialize;
    use serde::de::DeserializeOwned;
    use url::form_urlencoded;

    use super::*;

    fn params<T: DeserializeOwned>(pairs: &[(&str, &str)]) -> Result<T, String> {
        let pairs: Vec<_> =
            pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        T::deserialize(Params(&pairs)).map_err(|error| error.to_string())
    }

    fn query<T: DeserializeOwned>(query: &str) -> Result<T, String> {
        let fields = Fields::new(form_urlencoded::parse(query.as_bytes()));
        T::deserialize(fields).map_err(|error| error.to_string())
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "lowercase")]
    enum Unit {
        Day,
        Hour,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct Asked {
        room: String,
        #[serde(default)]
        page: u32,
        unit: Option<Unit>,
    }

    fn asked(room: &str, page: u32, unit: Option<Unit>) -> Result<Asked, String> {
        Ok(Asked { room: room.into(), page, unit })
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct Id(i8);

    #[test]
    fn one_parameter_is_a_value() {
        assert_eq!(params(&[("room", "a b")]), Ok(String::from("a b")));
        assert_eq!(params(&[("n", "-7")]), Ok(-7_i64));
        assert_eq!(params(&[("n", "-7")]), Ok(Id(-7)));
        assert_eq!(params(&[("n", "true")]), Ok((true,)));
        assert_eq!(params(&[("n", "é")]), Ok(Some('é')));
        assert_eq!(params(&[("n", "hour")]), Ok(Unit::Hour));
        assert_eq!(params::<()>(&[]), Ok(()));
        assert!(params::<u8>(&[("n", "256")]).unwrap_err().starts_with("\"256\""));
        assert!(params::<u8>(&[]).is_err() && params::<u8>(&[("n", "1"), ("m", "2")]).is_err());
    }

    #[test]
    fn several_parameters_are_a_tuple_a_struct_or_a_map() {
        let pairs = [("room", "a"), ("page", "2")];
        assert_eq!(params(&pairs), Ok((String::from("a"), 2_u8)));
        assert_eq!(params(&pairs), Ok(vec![String::from("a"), "2".into()]));
        assert_eq!(params(&pairs), asked("a", 2, None));
        let map: HashMap<String, String> = params(&pairs).unwrap();
        assert_eq!((map.len(), &*map["page"]), (2, "2"));
        assert!(params::<(String,)>(&pairs).is_err());
    }

    #[test]
    fn a_query_is_a_struct_or_a_map() {
        assert_eq!(query("room=a+b&page=2&unit=day"), asked("a b", 2, Some(Unit::Day)));
        assert_eq!(query("more=1&room=%C3%A9"), asked("é", 0, None));
        assert_eq!(query("n=1"), Ok(HashMap::from([(String::from("n"), 1_u8)])));
        assert_eq!(query::<HashMap<String, u8>>(""), Ok(HashMap::new()));
        let pairs = [(String::from("n"), 1_u8), ("n".into(), 2)];
        assert_eq!(query("n=1&n=2"), Ok(pairs.to_vec()));
        for bad in ["", "page=2", "room=a&page=two", "room=a&unit=week"] {
            assert!(query::<Asked>(bad).is_err(), "{bad}");
        }
    }
}
