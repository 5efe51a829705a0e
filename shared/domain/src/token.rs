//! The token of a dispatch. The engine signs it into the message, and the worker returns it with the outcome.
//!
//! It names the template and environment of the step's policy, so a completion is decided without a read and without trust in the
//! worker. Its signature covers step, lease and attempt, so it is valid for one dispatch only. It contains no secret. The lease is the
//! fence: a token that outlives its lease is only stale.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use uuid::Uuid;

use tasker_wire::{
    Answer::{self, Forged},
    Lease,
};

/// A key that signs tokens. During a rotation there are two.
#[derive(Clone)]
pub struct SigningKey {
    /// The key's name in a token: 1 to 16 of `[a-z0-9-]`.
    pub id: String,
    /// At least 32 random bytes.
    pub secret: Vec<u8>,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({})", self.id)
    }
}

/// A template's revision in an environment, whose policy applies.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TemplateRef {
    /// Identifies an immutable revision.
    pub template_id: Uuid,
    /// Selects the overlay; fixed at submit.
    pub environment: String,
}

/// Signs a dispatch with the first of `keys`.
pub fn sign(template: &TemplateRef, lease: Lease, attempt: i32, keys: &[SigningKey]) -> String {
    let key = keys.first().expect("an engine has a signing key");
    let body = format!("1.{}.{}.{}", key.id, template.template_id.simple(), template.environment);
    let mac = URL_SAFE_NO_PAD.encode(mac(key, &body, lease, attempt).finalize().into_bytes());
    format!("{body}.{mac}")
}

/// The template that a token names, if one of `keys` signed it for exactly this lease and attempt. [`Answer::Unknown`] for another
/// key, which may come from a rotation that this process has not seen yet.
pub fn verify(token: &str, lease: Lease, attempt: i32, keys: &[SigningKey]) -> Result<TemplateRef, Answer> {
    let (body, signature) = token.rsplit_once('.').ok_or(Forged)?;
    let mut parts = body.splitn(4, '.');
    let (Some("1"), Some(key_id), Some(template_id), Some(environment)) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Forged);
    };
    let key = keys.iter().find(|k| k.id == key_id).ok_or(Answer::Unknown)?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| Forged)?;
    mac(key, body, lease, attempt).verify_slice(&signature).map_err(|_| Forged)?;
    let template_id = Uuid::parse_str(template_id).map_err(|_| Forged)?;
    Ok(TemplateRef { template_id, environment: environment.to_owned() })
}

fn mac(key: &SigningKey, body: &str, lease: Lease, attempt: i32) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(&key.secret).expect("HMAC accepts keys of every length");
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
    fn a_token_is_good_for_its_own_dispatch_only() {
        let template = TemplateRef { template_id: Uuid::from_u128(7), environment: "production".into() };
        let lease = Lease { step: TaskId::from_fresh(Uuid::from_u128(1 << 90)).step(16_384), number: 3 };
        let token = sign(&template, lease, 2, &[key("new"), key("old")]);
        assert_eq!(verify(&token, lease, 2, &[key("other"), key("new")]), Ok(template));
        assert_eq!(verify(&token, Lease { number: 4, ..lease }, 2, &[key("new")]), Err(Forged));
        assert_eq!(verify(&token, lease, 1, &[key("new")]), Err(Forged));
        assert_eq!(verify(&token, lease, 2, &[key("old")]), Err(Answer::Unknown));
        assert_eq!(verify(&token.replace("production", "test"), lease, 2, &[key("new")]), Err(Forged));
        for junk in ["", ".", "1.new.x.y.z", "....", "1.new..."] {
            assert_eq!(verify(junk, lease, 2, &[key("new")]), Err(Forged));
        }
    }
}
