//! The language of the operator: custom resources, values, conditions and validated names. No client, no runtime.

pub mod names;
