//! Which versions of Kubernetes are supported.

use kube::Client;
use tracing::info;

use super::ControllerError;

/// The oldest minor version of Kubernetes 1 that is supported.
pub(super) const OLDEST_KUBERNETES: u32 = 33;

/// Asks the API server for its version: the first request, by which it is also known to answer.
pub(super) async fn check(client: &Client) -> Result<(), ControllerError> {
    let version = client.apiserver_version().await.map_err(|error| ControllerError::Version(Box::new(error)))?;
    if is_too_old(&version.major, &version.minor) {
        return Err(ControllerError::TooOld { found: version.git_version });
    }
    info!(kubernetes = version.git_version, "the API server answers");
    Ok(())
}

/// Whether it is older than what is supported. What can't be read is not known to be old: some add letters and signs.
fn is_too_old(major: &str, minor: &str) -> bool {
    let number = |text: &str| {
        let digits: String = text.trim().chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<u32>().ok()
    };
    match (number(major), number(minor)) {
        (Some(1), Some(minor)) => minor < OLDEST_KUBERNETES,
        (Some(major), _) => major < 1,
        (None, _) => false,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("1", "32", true)]
    #[case("1", "9", true)]
    #[case("1", "32+", true)]
    #[case("0", "99", true)]
    #[case("1", "33", false)]
    #[case("1", "33+", false)]
    #[case("1", "36-eks-1", false)]
    #[case("1", "", false)]
    #[case("1", "x33", false)]
    #[case("", "", false)]
    #[case("v1", "20", false)]
    #[case("2", "0", false)]
    #[case("1", "99999999999999", false)]
    fn only_a_version_that_is_known_to_be_old_is_refused(#[case] major: &str, #[case] minor: &str, #[case] old: bool) {
        assert_eq!(is_too_old(major, minor), old);
    }
}
