//! The language of the operator: custom resources, values, conditions and validated names. No client, no runtime.

pub mod artifacts;
pub mod conditions;
pub mod duration;
pub mod job;
pub mod marks;
pub mod names;
pub mod pipeline;
pub mod pod;
pub mod release;
pub mod run;
pub mod source;
pub mod steps;
pub mod values;
