//! Key files of our own and of openssl's making, and every reason why one is refused.

use std::os::unix::fs::PermissionsExt;

use super::*;

fn phrase(text: &str) -> Passphrase {
    Passphrase::new(Zeroizing::new(text.into())).unwrap()
}

fn put(path: &Path, text: &str) {
    disk::write(path, text.as_bytes(), Access::Private).unwrap();
}

fn nobody() -> Result<Passphrase, PassphraseError> {
    Err(PassphraseError::NoTerminal)
}

/// Made by openssl 3: `genpkey -algorithm ed25519`, then `pkcs8 -topk8 -v2 aes-256-cbc` (PBKDF2 with HMAC-SHA-256) or
/// `-scrypt`, with the passphrase `correct horse`. All hold the same key.
const OPENSSL: [&str; 3] =
    [include_str!("openssl/plain.pem"), include_str!("openssl/pbkdf2.pem"), include_str!("openssl/scrypt.pem")];
/// Its public half.
const PUBLIC: &str = include_str!("openssl/public.hex");

#[test]
fn keys_of_openssl_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    for text in OPENSSL {
        put(&path, text);
        let key = open(&path, || Ok(phrase("correct horse"))).unwrap();
        assert_eq!(hex::encode(key.public().bytes().unwrap()), PUBLIC.trim());
    }
}

#[test]
fn a_key_survives_its_file_encrypted_or_plain() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("anna.key");
    let plain = create(&path, None).unwrap();
    assert!(!is_encrypted(&path).unwrap());
    assert_eq!(read(&path).unwrap().public(), plain.public());
    assert_eq!(open(&path, nobody).unwrap().public(), plain.public(), "a plain key wants no passphrase");

    let secret = phrase("correct horse");
    let key = create(&path, Some(&secret)).unwrap();
    assert!(is_encrypted(&path).unwrap());
    assert_eq!(open(&path, || Ok(secret)).unwrap().public(), key.public());
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"), "{text}");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(matches!(open(&path, || Ok(phrase("battery"))), Err(KeyFileError::WrongPassphrase(_))));
    assert!(matches!(open(&path, nobody), Err(KeyFileError::NoPassphrase(_, PassphraseError::NoTerminal))));
    assert!(matches!(read(&path), Err(KeyFileError::Encrypted(_))));
}

#[test]
fn earlier_spellings_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    let key = SigningKey::generate().unwrap();
    put(&path, &format!("{}\n", hex::encode(key.to_pkcs8())));
    assert_eq!(read(&path).unwrap().public(), key.public());
    disk::write(&path, key.to_pkcs8(), Access::Private).unwrap();
    assert_eq!(read(&path).unwrap().public(), key.public());
    // As ring writes it, which earlier versions kept: PKCS#8 version 2.
    let document = ring::signature::Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).unwrap();
    put(&path, &hex::encode(document.as_ref()));
    let old = SigningKey::from_pkcs8(document.as_ref()).unwrap();
    assert_eq!(read(&path).unwrap().public(), old.public());
    write(&path, &old, Some(&phrase("x"))).unwrap();
    assert_eq!(open(&path, || Ok(phrase("x"))).unwrap().public(), old.public());
}

#[test]
fn what_is_no_key_is_refused_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    let missing = read(&path).unwrap_err();
    assert!(matches!(missing, KeyFileError::Missing(_)) && missing.to_string().contains("restore it"));
    let foreign = OPENSSL[0].replace("PRIVATE KEY", "EC PRIVATE KEY");
    for text in ["", "00", "no key", "\u{ff}", "-----BEGIN", &foreign, &OPENSSL[0][..60]] {
        put(&path, text);
        let damaged = read(&path).unwrap_err();
        assert!(matches!(damaged, KeyFileError::Damaged(_)), "{text}: {damaged}");
    }
    let unknown = SecretDocument::try_from(&b"\x30\x04\x30\x00\x04\x00"[..]).unwrap();
    put(&path, &unknown.to_pem(ENCRYPTED, LineEnding::LF).unwrap());
    let refused = open(&path, nobody).unwrap_err();
    assert!(matches!(refused, KeyFileError::Unsupported(_)) && refused.to_string().contains("-v2 aes-256-cbc"));
}

/// What becomes of a key of openssl whose salt and numbers, which take up so many bytes, are replaced by these numbers and
/// as much salt as there is room for; nobody is there to be asked for a passphrase.
fn opened_with(text: &str, room: usize, numbers: &[&[u8]]) -> KeyFileError {
    const PLACE: usize = 33;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    let (_, document) = SecretDocument::from_pem(text).unwrap();
    let mut der = document.as_bytes().to_vec();
    assert_eq!(der[PLACE..PLACE + 2], [4, 8], "the salt");
    let integers: Vec<u8> =
        numbers.iter().flat_map(|number| [&[2, u8::try_from(number.len()).unwrap()], *number].concat()).collect();
    let salt = room - 2 - integers.len();
    let now = [vec![4, u8::try_from(salt).unwrap()], vec![1; salt], integers].concat();
    der[PLACE..PLACE + room].copy_from_slice(&now);
    put(&path, &SecretDocument::try_from(der).unwrap().to_pem(ENCRYPTED, LineEnding::LF).unwrap());
    open(&path, nobody).unwrap_err()
}

#[test]
fn a_key_that_would_cost_too_much_to_open_is_refused_before_anybody_is_asked() {
    let is_asked = |error: &KeyFileError| matches!(error, KeyFileError::NoPassphrase(..));
    let is_refused = |error: &KeyFileError| matches!(error, KeyFileError::Unsupported(_));
    // N, r and p of scrypt.
    let scrypt = |numbers: [&[u8]; 3]| opened_with(OPENSSL[2], 20, &numbers);
    for numbers in [[&[0x40, 0][..], &[8], &[1]], [&[0x40, 0], &[8], &[5]], [&[2, 0, 0], &[8], &[4]]] {
        let error = scrypt(numbers);
        assert!(is_asked(&error), "{numbers:?}: {error}");
    }
    for numbers in [
        [&[0][..], &[8], &[1]],
        [&[0x40, 0], &[0], &[1]],
        [&[4, 0, 0], &[8], &[1]],
        [&[2, 0, 0], &[8], &[5]],
        [&[0x40, 0, 0, 0], &[8], &[1]],
        [&[2], &[0, 0xff, 0xff], &[0, 0xff, 0xff]],
    ] {
        let error = scrypt(numbers);
        assert!(is_refused(&error), "{numbers:?}: {error}");
    }
    // Rounds of PBKDF2.
    let pbkdf2 = |rounds: &[u8]| opened_with(OPENSSL[1], 14, &[rounds]);
    assert!(is_asked(&pbkdf2(&[0x3d, 9, 0])), "four million");
    assert!(is_refused(&pbkdf2(&[0x3d, 9, 1])));
    assert!(is_refused(&pbkdf2(&[0, 0xff, 0xff, 0xff, 0xff])));
}

#[test]
fn a_key_that_others_may_read_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    create(&path, None).unwrap();
    for mode in [0o640, 0o604, 0o660, 0o644] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let refused = read(&path).unwrap_err();
        assert!(matches!(refused, KeyFileError::Exposed(_)), "{mode:o}");
        assert!(refused.to_string().contains("chmod 600"));
    }
}

#[test]
fn no_message_holds_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    let secret = phrase("correct horse");
    let key = create(&path, Some(&secret)).unwrap();
    let wrong = open(&path, || Ok(phrase("wrong horse"))).unwrap_err();
    let said = format!("{wrong:?} {wrong} {key:?} {secret:?}");
    let seed = hex::encode(&key.to_pkcs8()[16..]);
    for word in ["horse", seed.as_str()] {
        assert!(!said.contains(word), "{said}");
    }
}

#[test]
fn a_public_key_has_one_spelling() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("anna.pub");
    assert!(matches!(read_public(&path), Err(KeyFileError::Missing(_))));
    let key = PublicKey::ed25519(&[0xab; 32]);
    write_public(&path, &key).unwrap();
    assert_eq!(read_public(&path).unwrap(), key);
    let capitals = tuf_form(&key).replace("abab", "ABAB");
    for text in ["", "{}", &capitals, &tuf_form(&key).replace("\"ed25519\"", "\"rsa\""), &tuf_form(&key)[..60]] {
        put(&path, text);
        assert!(matches!(read_public(&path), Err(KeyFileError::NotPublic(_))), "{text}");
    }
}
