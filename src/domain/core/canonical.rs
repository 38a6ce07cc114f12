//! Canonical JSON (RFC 8785): one text for one value, whoever writes it, so that others can compute the digests that are
//! answered. Events of the audit trail have a form of their own, which [`audit`](crate::domain::audit) says.

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::seal::hex;

/// Writes a value's canonical JSON. Numbers are double-precision: what they cannot hold is to be a text.
pub fn text(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    serde_json_canonicalizer::to_vec(value)
}

/// The SHA-256 of a value's canonical JSON, in hex.
pub fn digest(value: &impl Serialize) -> serde_json::Result<String> {
    Ok(hex(&Sha256::digest(text(value)?)))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn written(value: &Value) -> String {
        String::from_utf8(text(value).unwrap()).unwrap()
    }

    /// The samples of the RFC's appendix B.
    #[test]
    fn numbers_are_written_as_the_standard_has_them() {
        for (bits, expected) in [
            (0x0000_0000_0000_0000, "0"),
            (0x8000_0000_0000_0000, "0"),
            (0x0000_0000_0000_0001, "5e-324"),
            (0x8000_0000_0000_0001, "-5e-324"),
            (0x7fef_ffff_ffff_ffff, "1.7976931348623157e+308"),
            (0xffef_ffff_ffff_ffff, "-1.7976931348623157e+308"),
            (0x4340_0000_0000_0000, "9007199254740992"),
            (0xc340_0000_0000_0000, "-9007199254740992"),
            (0x4430_0000_0000_0000, "295147905179352830000"),
            (0x44b5_2d02_c7e1_4af5, "9.999999999999997e+22"),
            (0x44b5_2d02_c7e1_4af6, "1e+23"),
            (0x44b5_2d02_c7e1_4af7, "1.0000000000000001e+23"),
            (0x444b_1ae4_d6e2_ef4e, "999999999999999700000"),
            (0x444b_1ae4_d6e2_ef4f, "999999999999999900000"),
            (0x444b_1ae4_d6e2_ef50, "1e+21"),
            (0x3eb0_c6f7_a0b5_ed8c, "9.999999999999997e-7"),
            (0x3eb0_c6f7_a0b5_ed8d, "0.000001"),
            (0x41b3_de43_5555_5553, "333333333.3333332"),
            (0x41b3_de43_5555_5554, "333333333.33333325"),
            (0x41b3_de43_5555_5555, "333333333.3333333"),
            (0x41b3_de43_5555_5556, "333333333.3333334"),
            (0x41b3_de43_5555_5557, "333333333.33333343"),
            (0xbecb_f647_612f_3696, "-0.0000033333333333333333"),
            (0x4314_3ff3_c1cb_0959, "1424953923781206.2"),
        ] {
            assert_eq!(written(&json!(f64::from_bits(bits))), expected, "{bits:016x}");
        }
        assert_eq!(written(&json!([1e16, 4.50, 2e-3, 1, -1])), "[10000000000000000,4.5,0.002,1,-1]");
    }

    /// The samples of the RFC's sections 3.2.2 and 3.2.3.
    #[test]
    fn literals_texts_and_members_are_written_as_the_standard_has_them() {
        let value = r#"{
            "numbers": [1E30, 4.50, 2e-3],
            "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
            "literals": [null, true, false]
        }"#;
        let expected = "{\"literals\":[null,true,false],\"numbers\":[1e+30,4.5,0.002],\
                        \"string\":\"\u{20ac}$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}";
        assert_eq!(written(&serde_json::from_str(value).unwrap()), expected);
        // By UTF-16 code units.
        let value = json!({
            "\u{20ac}": "Euro Sign", "\r": "Carriage Return", "\u{fb33}": "Hebrew Letter Dalet With Dagesh", "1": "One",
            "\u{1f600}": "Emoji: Grinning Face", "\u{80}": "Control", "\u{f6}": "Latin Small Letter O With Diaeresis",
        });
        let order = ["\\r", "1", "\u{80}", "\u{f6}", "\u{20ac}", "\u{1f600}", "\u{fb33}"];
        let written = written(&value);
        let places: Vec<_> = order.iter().map(|key| written.find(&format!("\"{key}\":")).unwrap()).collect();
        assert!(places.is_sorted(), "{written}");
    }

    #[test]
    fn what_is_null_is_there() {
        assert_eq!(written(&json!({"b": null, "a": {"d": null}})), r#"{"a":{"d":null},"b":null}"#);
        let empty = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
        assert_eq!(digest(&json!({})).unwrap(), empty);
    }
}
