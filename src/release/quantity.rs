//! Kubernetes quantities, as far as they must be compared.

/// `text` as a number: bytes, cores, whatever its unit counts. `None`: it is no quantity.
#[must_use]
pub fn bytes(text: &str) -> Option<f64> {
    let text = text.trim();
    let unit_at = text
        .char_indices()
        .find(|(at, c)| !(c.is_ascii_digit() || *c == '.' || (*at == 0 && matches!(c, '+' | '-'))))
        .map_or(text.len(), |(at, _)| at);
    let (number, unit) = text.split_at(unit_at);
    let number: f64 = number.parse().ok()?;
    let factor = match unit {
        "" => 1.0,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" | "K" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1_048_576.0,
        "Gi" => 1_073_741_824.0,
        "Ti" => 1_099_511_627_776.0,
        "Pi" => 1_125_899_906_842_624.0,
        "Ei" => 1_152_921_504_606_846_976.0,
        _ => {
            let exponent: i32 = unit.strip_prefix(['e', 'E'])?.parse().ok()?;
            10_f64.powi(exponent)
        }
    };
    Some(number * factor)
}

/// Whether two quantities are the same amount: the API server rewrites `1000m` as `1`.
#[must_use]
pub fn same(a: &str, b: &str) -> bool {
    match (bytes(a), bytes(b)) {
        (Some(a), Some(b)) => (a - b).abs() <= f64::EPSILON * a.abs().max(b.abs()),
        (Some(_) | None, _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("1000m", "1", true)]
    #[case("1024Mi", "1Gi", true)]
    #[case("1G", "1Gi", false)]
    #[case("1e3", "1k", true)]
    #[case("5Gi", "x", false)]
    fn amounts_are_compared_and_not_spellings(#[case] a: &str, #[case] b: &str, #[case] equal: bool) {
        assert_eq!(same(a, b), equal);
    }
}
