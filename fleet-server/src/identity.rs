//! Who calls the operator routes and what they may do: roles, tokens, nothing else. Deny by default.

use std::str::FromStr;

use ring::rand::{SecureRandom, SystemRandom};
use tern_protocol::digest::Digest;

/// What a token allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Reads.
    Viewer,
    /// Reads and publishes versions.
    Publisher,
    /// Reads, enrols devices and assigns versions.
    Operator,
    /// Everything.
    Admin,
}

/// What a route wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// To see lists.
    Read,
    /// To upload manifests, blobs and team metadata.
    Publish,
    /// To enrol devices and assign versions.
    Operate,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Publisher, Self::Operator, Self::Admin];

    /// The role as text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Publisher => "publisher",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// Whether the role may do this.
    pub fn allows(self, permission: Permission) -> bool {
        matches!(
            (self, permission),
            (_, Permission::Read)
                | (Self::Publisher | Self::Admin, Permission::Publish)
                | (Self::Operator | Self::Admin, Permission::Operate)
        )
    }
}

/// Text that names no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no role is called {0:?}")]
pub struct UnknownRole(String);

impl FromStr for Role {
    type Err = UnknownRole;
    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or_else(|| UnknownRole(text.to_owned()))
    }
}

/// The holder of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// The token's name.
    pub name: String,
    /// Its role.
    pub role: Role,
}

/// A secret that is shown once: an operator's token, or an enrolment's secret. The server keeps [`Secret::hash`] only.
pub struct Secret(String);

/// The system gave no random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no randomness to make a secret from")]
pub struct NoRandomness;

impl Secret {
    /// 32 random bytes.
    ///
    /// # Errors
    /// Where the system has no randomness.
    pub fn generate() -> Result<Self, NoRandomness> {
        Ok(Self(hex::encode(random::<32>()?)))
    }

    /// The secret as text.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What the store keeps of it.
    pub fn hash(&self) -> Digest {
        secret_hash(&self.0)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// What the store keeps of a presented secret. It has 256 random bits, so a plain hash cannot be searched.
pub fn secret_hash(presented: &str) -> Digest {
    Digest::of(presented.as_bytes())
}

/// Random bytes from the system.
///
/// # Errors
/// Where it has none.
pub fn random<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_does_only_what_it_is_for() {
        use Permission::{Operate, Publish, Read};
        let allowed = |role: Role| [Read, Publish, Operate].map(|permission| role.allows(permission));
        assert_eq!(allowed(Role::Viewer), [true, false, false]);
        assert_eq!(allowed(Role::Publisher), [true, true, false]);
        assert_eq!(allowed(Role::Operator), [true, false, true]);
        assert_eq!(allowed(Role::Admin), [true, true, true]);
    }

    #[test]
    fn roles_are_text_in_the_store() {
        for role in Role::ALL {
            assert_eq!(role.as_str().parse(), Ok(role));
        }
        assert!("root".parse::<Role>().is_err());
    }

    #[test]
    fn secrets_differ_and_never_print_themselves() {
        let (a, b) = (Secret::generate().unwrap(), Secret::generate().unwrap());
        assert_ne!(a.hash(), b.hash());
        assert_eq!(a.hash(), secret_hash(a.reveal()));
        assert_eq!((a.reveal().len(), format!("{a:?}")), (64, "Secret".to_owned()));
    }
}
