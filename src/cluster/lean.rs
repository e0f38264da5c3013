//! Objects without the fields that no decision reads.
//!
//! Who wrote which field last (`metadata.managedFields`) is two fifths of the bytes that the API server sends of a pod,
//! half of those of a Job, and, as a tree of maps, three fifths and three quarters of the time that it takes to decode them
//! (measured). The API server can't be asked to leave anything out, so it is passed over here.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use kube::Resource;
use kube::core::ObjectMeta;
use serde::de::value::CowStrDeserializer;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

/// Fields that are not decoded, each with its name. What is said of a list holds for each of its items.
pub type Omitted = &'static [(&'static str, Omit)];

/// What of a field is not decoded.
#[derive(Debug, Clone, Copy)]
pub enum Omit {
    /// All of it: it must be one that may be missing.
    Whole,
    /// Fields in it.
    Within(Omitted),
}

/// A choice of fields that are not decoded.
pub trait Omission: fmt::Debug + Clone + Send + Sync + 'static {
    /// The fields of an object.
    const OMITTED: Omitted;
}

/// `managedFields`, which nothing reads.
#[derive(Debug, Clone)]
pub struct ManagedFields;

/// [`ManagedFields`], for other choices to contain it.
pub const MANAGED_FIELDS: (&str, Omit) = ("metadata", Omit::Within(&[("managedFields", Omit::Whole)]));

impl Omission for ManagedFields {
    const OMITTED: Omitted = &[MANAGED_FIELDS];
}

/// An object of which these fields were never decoded.
#[derive(Debug, Clone)]
pub struct Lean<K, O = ManagedFields>(pub K, PhantomData<O>);

impl<'de, K: Deserialize<'de>, O: Omission> Deserialize<'de> for Lean<K, O> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        K::deserialize(Without { inner: deserializer, omitted: O::OMITTED }).map(|object| Lean(object, PhantomData))
    }
}

impl<K: Resource, O: Omission> Resource for Lean<K, O> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dynamic)
    }
    fn group(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dynamic)
    }
    fn version(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dynamic)
    }
    fn plural(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dynamic)
    }
    fn meta(&self) -> &ObjectMeta {
        self.0.meta()
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.meta_mut()
    }
}

/// Something that is decoded without these fields: a deserializer, or its visitor, or a list's items, or what reads a
/// value.
struct Without<T> {
    inner: T,
    omitted: Omitted,
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Without<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_any(Without { inner: visitor, omitted: self.omitted })
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_option(Without { inner: visitor, omitted: self.omitted })
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_seq(Without { inner: visitor, omitted: self.omitted })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_map(Without { inner: visitor, omitted: self.omitted })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_struct(name, fields, Without { inner: visitor, omitted: self.omitted })
    }

    // Fields are in objects, or in lists of them, and in nothing else.
    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct tuple tuple_struct enum identifier ignored_any
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Without<V> {
    type Value = V::Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(formatter)
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        self.inner.visit_some(Without { inner: deserializer, omitted: self.omitted })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<V::Value, A::Error> {
        self.inner.visit_seq(Without { inner: items, omitted: self.omitted })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.inner.visit_map(Fields { inner: map, omitted: self.omitted, within: None })
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Without<A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.inner.next_element_seed(Without { inner: seed, omitted: self.omitted })
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Without<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        self.inner.deserialize(Without { inner: deserializer, omitted: self.omitted })
    }
}

/// The fields of an object.
struct Fields<A> {
    inner: A,
    omitted: Omitted,
    /// What is not decoded of the field whose name was read last.
    within: Option<Omitted>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Fields<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        while let Some(Name(name)) = self.inner.next_key()? {
            self.within = match self.omitted.iter().find(|(omitted, _)| *omitted == name) {
                Some((_, Omit::Whole)) => {
                    self.inner.next_value::<IgnoredAny>()?;
                    continue;
                }
                Some((_, Omit::Within(omitted))) => Some(omitted),
                None => None,
            };
            return seed.deserialize(CowStrDeserializer::new(name)).map(Some);
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        match self.within {
            Some(omitted) => self.inner.next_value_seed(Without { inner: seed, omitted }),
            None => self.inner.next_value_seed(seed),
        }
    }
}

/// The name of a field, which is copied only when it has to be.
struct Name<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrow;
        impl<'de> Visitor<'de> for Borrow {
            type Value = Name<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("the name of a field")
            }
            fn visit_borrowed_str<E: Error>(self, name: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(name)))
            }
            fn visit_str<E: Error>(self, name: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(Borrow)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use k8s_openapi::api::batch::v1::Job;
    use k8s_openapi::api::core::v1::{ConfigMap, Pod};
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    use super::*;

    fn managed(mut object: Value) -> Value {
        object["metadata"]["managedFields"] = json!([{"manager": "kubelet", "operation": "Update",
            "fieldsV1": {"f:status": {"f:phase": {}}}}]);
        object
    }

    /// The same as without, but for what is left out.
    fn is_lean<K: DeserializeOwned + PartialEq + fmt::Debug>(object: &Value) {
        let lean: Lean<K> = serde_json::from_str(&managed(object.clone()).to_string()).unwrap();
        assert_eq!(lean.0, serde_json::from_value::<K>(object.clone()).unwrap());
        let lean: Lean<K> = serde_json::from_value(managed(object.clone())).unwrap();
        assert_eq!(lean.0, serde_json::from_value::<K>(object.clone()).unwrap());
    }

    #[test]
    fn only_the_managed_fields_of_the_object_itself_are_left_out() {
        let metadata = json!({"name": "a", "namespace": "b", "labels": {"managedFields": "kept"},
            "creationTimestamp": "2026-01-01T00:00:00Z", "ownerReferences": []});
        is_lean::<Pod>(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata,
            "spec": {"containers": [{"name": "job", "env": [{"name": "A", "value": "$x"}]}]},
            "status": {"phase": "Running", "conditions": []}}));
        is_lean::<Job>(&json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata,
            "spec": {"template": {"metadata": {"annotations": {"metadata": "kept"}}, "spec": {"containers": []}}}}));
        is_lean::<ConfigMap>(&json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata,
            "data": {"managedFields": "kept", "metadata": "kept"}}));
        let inner = managed(json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": []}}));
        let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {"template": inner}});
        let lean: Lean<Job> = serde_json::from_value(job).unwrap();
        assert!(lean.0.spec.unwrap().template.metadata.unwrap().managed_fields.is_some(), "of a template it stays");
    }

    #[derive(Debug, Clone)]
    struct Names;

    impl Omission for Names {
        const OMITTED: Omitted = &[
            MANAGED_FIELDS,
            ("spec", Omit::Within(&[("containers", Omit::Within(&[("env", Omit::Whole), ("args", Omit::Whole)]))])),
            ("status", Omit::Whole),
        ];
    }

    #[test]
    fn what_is_omitted_of_a_list_is_omitted_of_each_of_its_items() {
        let pod = |container: Value, status: Option<Value>| {
            let mut pod = managed(json!({"metadata": {"name": "a"}, "spec": {"nodeName": "n",
                "containers": [container.clone(), {"name": "b"}, container], "initContainers": [{"name": "c", "args": ["x"]}]}}));
            if let Some(status) = status {
                pod["status"] = status;
            }
            pod
        };
        let whole = pod(json!({"name": "a", "args": ["y"], "env": [{"name": "A"}], "image": "i"}), Some(json!({})));
        let mut left = pod(json!({"name": "a", "image": "i"}), None);
        left["metadata"] = json!({"name": "a"});
        let left: Pod = serde_json::from_value(left).unwrap();
        assert_eq!(serde_json::from_str::<Lean<Pod, Names>>(&whole.to_string()).unwrap().0, left);
        assert_eq!(serde_json::from_value::<Lean<Pod, Names>>(whole).unwrap().0, left);
        // A name that was written with an escape is the same name.
        let escaped = r#"{"metadata": {"name": "a"}, "st\u0061tus": {"phase": "Running"}}"#;
        assert!(serde_json::from_str::<Lean<Pod, Names>>(escaped).unwrap().0.status.is_none());
    }

    #[test]
    fn what_is_no_object_is_refused_as_before() {
        for text in ["[]", "1", "{\"metadata\": 1}", "{\"metadata\": {\"managedFields\": ", "null"] {
            let (lean, plain) = (serde_json::from_str::<Lean<Pod>>(text), serde_json::from_str::<Pod>(text));
            assert_eq!(lean.is_err(), plain.is_err(), "{text}");
        }
        assert!(serde_json::from_str::<Lean<Pod>>("{\"metadata\": null}").is_ok());
    }
}
