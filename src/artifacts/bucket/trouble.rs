//! Why a bucket can't be used, in words that say what to do.

use std::error::Error;
use std::fmt;

const MAX_CODE: usize = 64;
const MAX_CAUSE: usize = 300;

/// The bucket, the cause, and the next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::artifacts) struct Trouble {
    bucket: String,
    cause: String,
    next: &'static str,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} can't be used: {}; {}", self.bucket, self.cause, self.next)
    }
}

/// Whether an artifact is not there, in a bucket that is.
pub(in crate::artifacts) fn is_missing_artifact(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::NotFound { .. }) && code(&error.to_string()) != Some("NoSuchBucket")
}

impl Trouble {
    pub(super) fn of(bucket: String, error: &object_store::Error) -> Self {
        let text = error.to_string();
        // The whole answer stays out of the log: with a wrong signature it repeats the request's.
        match code(&text) {
            Some(code) => Self { bucket, cause: format!("it answered {code}"), next: next_step(code) },
            None => Self::of_transport(bucket, error, &text),
        }
    }

    /// An answer, read elsewhere, that is no success.
    pub(super) fn answered(bucket: String, status: u16, body: &str) -> Self {
        match code(body) {
            Some(code) => Self { bucket, cause: format!("it answered {code}"), next: next_step(code) },
            None => Self { bucket, cause: format!("it answered {status}"), next: next_step("") },
        }
    }

    fn of_transport(bucket: String, error: &object_store::Error, text: &str) -> Self {
        let mut deepest: &dyn Error = error;
        while let Some(source) = deepest.source() {
            deepest = source;
        }
        let cause = deepest.to_string().chars().filter(|c| !c.is_control()).take(MAX_CAUSE).collect();
        let next = if text.contains("incorrectly configured region") {
            next_step("PermanentRedirect")
        } else if text.contains("the credentials can't be used") {
            "look at the Secret that the store is given"
        } else {
            "look whether the endpoint is right, runs, and is allowed by the NetworkPolicies, and whether its \
             certificate is by an authority that the store trusts"
        };
        Self { bucket, cause, next }
    }
}

/// The code of S3's error document.
fn code(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    let fits = (1..=MAX_CODE).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    fits.then_some(code)
}

fn next_step(code: &str) -> &'static str {
    match code {
        "NoSuchBucket" => "make the bucket, or name another one",
        "InvalidAccessKeyId" | "XAdminUserNotFound" => {
            "the access key is unknown there: put one that exists into the Secret"
        }
        "SignatureDoesNotMatch" => {
            "the secret key does not belong to the access key: put both into the Secret again, without anything around them"
        }
        "ExpiredToken" | "InvalidToken" => "the session token has expired: renew it",
        "AccessDenied" | "AllAccessDisabled" | "AccountProblem" => {
            "allow this identity s3:ListBucket and s3:ListBucketMultipartUploads on the bucket, and s3:GetObject, \
             s3:PutObject, s3:DeleteObject and s3:AbortMultipartUpload on what lies below the prefix"
        }
        "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException" => {
            "the bucket is in another region: name that"
        }
        "RequestTimeTooSkewed" => "the clock of this node or of the server is wrong: set it",
        "QuotaExceeded" | "XMinioStorageFull" | "InsufficientStorage" => "the server has no room left: make some",
        _ => "the server's own log may say more",
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn error(text: &str) -> object_store::Error {
        object_store::Error::Generic { store: "S3", source: text.to_owned().into() }
    }

    #[rstest]
    #[case(
        "Server returned 403: <Error><Code>SignatureDoesNotMatch</Code><StringToSign>AWS4\nsecret",
        "both into the Secret"
    )]
    #[case("<?xml?><Error><Code>NoSuchBucket</Code></Error>", "make the bucket")]
    #[case("<Error><Code>AccessDenied</Code></Error>", "s3:AbortMultipartUpload")]
    #[case("<Error><Code>Whatever</Code></Error>", "it answered Whatever")]
    #[case(
        "Received redirect without LOCATION, this normally indicates an incorrectly configured region",
        "another region"
    )]
    #[case("tcp connect error", "tcp connect error")]
    fn a_failure_names_bucket_cause_and_next_step(#[case] text: &str, #[case] words: &str) {
        let told = Trouble::of("bucket `artifacts` at https://s3.example.org".to_owned(), &error(text)).to_string();
        assert!(told.contains("bucket `artifacts` at https://s3.example.org can't be used: "), "{told}");
        assert!(told.contains(words) && !told.contains("StringToSign"), "{told}");
    }

    #[test]
    fn a_hostile_answer_is_neither_taken_for_a_code_nor_a_flood_of_the_log() {
        let text = format!("<Code>{}</Code>\x1b[2J{}", "x".repeat(9000), "y".repeat(9000));
        let told = Trouble::of("b".to_owned(), &error(&text)).to_string();
        assert!(told.len() < 700 && !told.contains('\x1b'), "{told}");
    }
}
