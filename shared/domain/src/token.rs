//! The token of a hand-over: what the engine signs into a message and finds again in its answer.
//!
//! It names the template and environment that hold the step's policy, so that a completion is decided without a read and
//! never from what a worker says; and it covers step, lease and attempt, so that an answer cannot be given for another hand-over.
//! It says nothing secret. The fence is the lease: a token outlives its lease and is then merely stale.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use uuid::Uuid;

use tasker_wire::Lease;

/// A key that tokens are signed with. Two may be in use while keys rotate.
#[derive(Clone)]
pub struct SigningKey {
    /// Names the key inside the token: 1 to 16 of `[a-z0-9-]`.
    pub id: String,
    /// At least 32 random bytes.
    pub secret: Vec<u8>,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({})", self.id)
    }
}

/// Whose policy applies: a template's revision in an environment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TemplateRef {
    /// The immutable revision of a template.
    pub template_id: Uuid,
    /// The overlay that was chosen at submit.
    pub environment: String,
}

/// A token was not signed by us, or not for this hand-over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the token was not issued for this step, lease and attempt")]
pub struct Forged;

/// Signs a hand-over with the first of `keys`.
pub fn sign(template: &TemplateRef, lease: Lease, attempt: i32, keys: &[SigningKey]) -> String {
    let key = keys.first().expect("an engine has a signing key");
    let body = format!("1.{}.{}.{}", key.id, template.template_id.simple(), template.environment);
    let mac = URL_SAFE_NO_PAD.encode(mac(key, &body, lease, attempt).finalize().into_bytes());
    format!("{body}.{mac}")
}

/// The plan that a token names, if one of `keys` signed it for exactly this hand-over.
pub fn verify(token: &str, lease: Lease, attempt: i32, keys: &[SigningKey]) -> Result<TemplateRef, Forged> {
    let (body, signature) = token.rsplit_once('.').ok_or(Forged)?;
    let mut parts = body.splitn(4, '.');
    let (Some("1"), Some(key_id), Some(template_id), Some(environment)) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Forged);
    };
    let key = keys.iter().find(|k| k.id == key_id).ok_or(Forged)?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| Forged)?;
    mac(key, body, lease, attempt).verify_slice(&signature).map_err(|_| Forged)?;
    let template_id = Uuid::parse_str(template_id).map_err(|_| Forged)?;
    Ok(TemplateRef { template_id, environment: environment.to_owned() })
}

/// Whether the key that a token names is one of `keys`. One that is not may be of a rotation that this process has not heard of.
pub fn names_a_key_of(token: &str, keys: &[SigningKey]) -> bool {
    let mut parts = token.split('.');
    parts.next() == Some("1") && parts.next().is_some_and(|id| keys.iter().any(|key| key.id == id))
}

/// Whether a text has the shape of a token at all.
pub fn is_token(text: &str) -> bool {
    text.starts_with("1.") && text.split('.').count() >= 5
}

fn mac(key: &SigningKey, body: &str, lease: Lease, attempt: i32) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(&key.secret).expect("HMAC takes keys of every length");
    mac.update(body.as_bytes());
    mac.update(lease.step.uuid().as_bytes());
    mac.update(&lease.number.to_be_bytes());
    mac.update(&attempt.to_be_bytes());
    mac
}

#[cfg(test)]
mod tests {
    use super::*;
    use tasker_wire::TaskId;

    fn key(id: &str) -> SigningKey {
        SigningKey { id: id.into(), secret: id.as_bytes().repeat(32) }
    }

    #[test]
    fn a_token_is_good_for_its_own_hand_over_only() {
        let template = TemplateRef { template_id: Uuid::from_u128(7), environment: "production".into() };
        let lease = Lease { step: TaskId::from_fresh(Uuid::from_u128(1 << 90)).step(16_384), number: 3 };
        let token = sign(&template, lease, 2, &[key("new"), key("old")]);
        assert_eq!(verify(&token, lease, 2, &[key("other"), key("new")]), Ok(template));
        assert_eq!(verify(&token, Lease { number: 4, ..lease }, 2, &[key("new")]), Err(Forged));
        assert_eq!(verify(&token, lease, 1, &[key("new")]), Err(Forged));
        assert_eq!(verify(&token, lease, 2, &[key("old")]), Err(Forged));
        assert_eq!(verify(&token.replace("production", "test"), lease, 2, &[key("new")]), Err(Forged));
        assert!(names_a_key_of(&token, &[key("new")]) && !names_a_key_of(&token, &[key("old")]) && is_token(&token));
        for junk in ["", ".", "1.new.x.y.z", "....", "1.new..."] {
            assert_eq!(verify(junk, lease, 2, &[key("new")]), Err(Forged));
        }
    }
}
