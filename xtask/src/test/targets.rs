//! Which test target belongs to which tier.

use anyhow::{Context, Result};
use serde_json::Value;

use super::{PACKAGE, Tier, cargo};
use crate::host::run;

/// Every test target of the package, by name.
const TIERS: [(&str, Tier); 9] = [
    ("architecture", Tier::Unit),
    ("generated", Tier::Unit),
    ("model", Tier::Model),
    ("agent", Tier::Contract),
    ("artifacts", Tier::Contract),
    ("charts", Tier::Contract),
    ("contract", Tier::Contract),
    ("apiserver", Tier::Apiserver),
    ("e2e", Tier::E2e),
];

/// The test targets that this checkout has.
pub struct Targets {
    names: Vec<String>,
}

impl Targets {
    /// Asks cargo.
    ///
    /// # Errors
    /// When a manifest is broken.
    pub fn load() -> Result<Self> {
        let text = run::output(&mut cargo(["metadata", "--no-deps", "--format-version=1", "--locked"]))?;
        let metadata: Value = serde_json::from_str(&text).context("output of cargo metadata")?;
        let package = metadata["packages"].as_array().into_iter().flatten().find(|package| package["name"] == PACKAGE);
        let targets =
            package.and_then(|package| package["targets"].as_array()).context("the package has no targets")?;
        let tests = targets.iter().filter(|target| target["kind"][0] == "test");
        Ok(Self { names: tests.filter_map(|target| Some(target["name"].as_str()?.to_owned())).collect() })
    }

    /// Arguments that choose a tier's targets.
    pub fn flags(&self, tier: Tier) -> Vec<String> {
        self.flags_where(|of| of == tier)
    }

    /// Arguments that choose everything that any tier runs.
    pub fn flags_of_all(&self) -> Vec<String> {
        let mut flags = vec!["--lib".to_owned(), "--bins".to_owned()];
        flags.extend(self.flags_where(|_| true));
        flags
    }

    fn flags_where(&self, wanted: impl Fn(Tier) -> bool) -> Vec<String> {
        TIERS
            .into_iter()
            .filter(|(name, tier)| wanted(*tier) && self.names.iter().any(|own| own == name))
            .flat_map(|(name, _)| ["--test".to_owned(), name.to_owned()])
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_test_target_belongs_to_a_tier() {
        for name in Targets::load().unwrap().names {
            assert!(TIERS.iter().any(|(known, _)| *known == name), "{name} is run by no tier");
        }
    }

    #[test]
    fn a_tier_chooses_its_targets_only() {
        let targets = Targets { names: vec!["agent".to_owned(), "charts".to_owned(), "e2e".to_owned()] };
        assert_eq!(targets.flags(Tier::Contract), ["--test", "agent", "--test", "charts"]);
        assert!(targets.flags(Tier::Model).is_empty());
        assert_eq!(targets.flags_of_all().len(), 8);
    }
}
