//! NvPCRs: checklist rows 2 and 36, with forged certifications.

use policy::evidence::nvpcr::{NvPcr, NvPcrClaim, NvPcrError, NvPcrFault};
use policy::tpm::alg::HashAlg;
use policy::tpm::attest::{Attest, AttestError};
use policy::tpm::nv::{NvPublic, NvPublicError};
use policy::tpm::signature::SignatureError;

use crate::linux::{scene, systemd};
use crate::rig::{Forged, Key, QUALIFYING_DATA, SHA256, Scene, quote_info, tpm2b};

const INDEX: u32 = 0x01d1_0200;
/// POLICYWRITE, TPM_NT_EXTEND, AUTHREAD, OWNERREAD, NO_DA, CLEAR_STCLEAR, WRITTEN.
const ATTRIBUTES: u32 = 1 << 3 | 4 << 4 | 3 << 17 | 1 << 25 | 1 << 27 | 1 << 29;
const WRITTEN: u32 = 1 << 29;
const VALUE: [u8; 32] = [0x77; 32];

/// The parts of an NvPCR, each of which a test may set wrong.
struct Index {
    handle: u32,
    name_alg: u16,
    attributes: u32,
    policy: Vec<u8>,
    size: u16,
}

const fn honest() -> Index {
    Index { handle: INDEX, name_alg: SHA256, attributes: ATTRIBUTES, policy: Vec::new(), size: 32 }
}

impl Index {
    fn new() -> Self {
        Self { policy: vec![0xaa; 32], ..honest() }
    }

    fn public(&self) -> Vec<u8> {
        let mut out = self.handle.to_be_bytes().to_vec();
        out.extend(self.name_alg.to_be_bytes());
        out.extend(self.attributes.to_be_bytes());
        out.extend(tpm2b(&self.policy));
        out.extend(self.size.to_be_bytes());
        out
    }

    fn name(&self) -> Vec<u8> {
        [&[0, 0xb], HashAlg::Sha256.hash(&[&self.public()]).as_bytes()].concat()
    }

    fn init_text(&self) -> String {
        format!("nvpcr-init:hardware:{:#x}:{}", self.handle, hex::encode(self.name()))
    }
}

fn nv_info(name: &[u8], offset: u16, contents: &[u8]) -> Vec<u8> {
    [tpm2b(name), offset.to_be_bytes().to_vec(), tpm2b(contents)].concat()
}

/// A boot that measured these texts into PCR 9.
fn booted(texts: &[&str]) -> Scene {
    let measured: Vec<_> = texts.iter().map(|text| (r#""pcr":9"#, *text, None)).collect();
    let extended: Vec<_> = texts.iter().map(|text| (9, *text)).collect();
    scene(&extended, Some(systemd(&measured)))
}

fn attest(body: Vec<u8>) -> Forged {
    Forged { magic: 0xff54_4347, kind: 0x8014, extra_data: QUALIFYING_DATA.to_vec(), body }
}

/// Verifies the certification `attest` of `index` by the key of `scene`.
fn judge(scene: &Scene, index: &Index, attest: &Forged) -> Result<NvPcr, NvPcrError> {
    let (public, attest) = (index.public(), attest.bytes());
    let signature = scene.key.sign(&attest);
    let claim = NvPcrClaim { name: "hardware", public: &public, attest: &attest, signature: &signature };
    NvPcr::verify(&claim, &scene.key.ak(), QUALIFYING_DATA, &scene.verify().unwrap())
}

/// An index that was measured at boot and is certified whole.
fn certified(index: &Index) -> Result<NvPcr, NvPcrError> {
    let init = index.init_text();
    judge(&booted(&[&init, "nvpcr-separator"]), index, &attest(nv_info(&index.name(), 0, &VALUE)))
}

#[test]
fn an_index_that_was_measured_at_boot_is_accepted() {
    let nvpcr = certified(&Index::new()).unwrap();
    assert_eq!((nvpcr.name(), nvpcr.index()), ("hardware", INDEX));
    assert_eq!(nvpcr.value().as_bytes(), VALUE);
}

#[test]
fn the_name_may_have_been_measured_before_the_first_write() {
    let unwritten = Index { attributes: ATTRIBUTES & !WRITTEN, ..Index::new() };
    let scene = booted(&[&unwritten.init_text(), "nvpcr-separator"]);
    let index = Index::new();
    judge(&scene, &index, &attest(nv_info(&index.name(), 0, &VALUE))).unwrap();
}

#[test]
fn row_36_other_attributes_under_the_same_index_are_refused() {
    let measured = Index::new();
    let scene = booted(&[&measured.init_text(), "nvpcr-separator"]);
    for other in [
        Index { attributes: ATTRIBUTES | 1 << 26, ..Index::new() },
        Index { policy: vec![0xbb; 32], ..Index::new() },
        Index { handle: INDEX + 1, ..Index::new() },
    ] {
        let error = judge(&scene, &other, &attest(nv_info(&other.name(), 0, &VALUE))).unwrap_err();
        assert_eq!(error, NvPcrError::Redefined { name: "hardware".to_owned() });
    }
}

#[test]
fn row_36_an_index_that_can_be_written_otherwise_is_refused_though_measured() {
    let with = |attributes| Index { attributes, ..Index::new() };
    for (index, fault) in [
        (with(ATTRIBUTES & !(0xf << 4)), NvPcrFault::NotExtend),
        (with(ATTRIBUTES & !(0xf << 4) | 1 << 4), NvPcrFault::NotExtend),
        (with(ATTRIBUTES & !(1 << 3)), NvPcrFault::NoPolicy),
        (Index { policy: Vec::new(), ..Index::new() }, NvPcrFault::NoPolicy),
        (with(ATTRIBUTES | 1), NvPcrFault::OpenWrite),
        (with(ATTRIBUTES | 1 << 1), NvPcrFault::OpenWrite),
        (with(ATTRIBUTES | 1 << 2), NvPcrFault::OpenWrite),
        (with(ATTRIBUTES & !(1 << 27)), NvPcrFault::Persistent),
        (Index { size: 64, ..Index::new() }, NvPcrFault::Size),
    ] {
        assert_eq!(certified(&index), Err(NvPcrError::Attribute { index: INDEX, fault }));
    }
}

#[test]
fn row_36_a_part_or_a_hash_of_the_contents_is_refused() {
    let index = Index::new();
    let scene = booted(&[&index.init_text(), "nvpcr-separator"]);
    for body in [
        nv_info(&index.name(), 1, &VALUE),
        nv_info(&index.name(), 0, &VALUE[..31]),
        nv_info(&index.name(), 0, &[]),
    ] {
        assert_eq!(judge(&scene, &index, &attest(body)), Err(NvPcrError::Partial(INDEX)));
    }
    let digest = Forged { kind: 0x801c, ..attest([tpm2b(&index.name()), tpm2b(&VALUE)].concat()) };
    assert_eq!(judge(&scene, &index, &digest), Err(NvPcrError::Partial(INDEX)));
}

#[test]
fn row_36_only_a_closed_list_in_an_explained_pcr_9_counts() {
    let index = Index::new();
    let (init, other) = (index.init_text(), "nvpcr-init:login:0x1d10203:000b00");
    let good = attest(nv_info(&index.name(), 0, &VALUE));
    let not_measured = NvPcrError::NotMeasured("hardware".to_owned());
    for (texts, expected) in [
        (vec![init.as_str()], NvPcrError::NoList),
        (vec!["nvpcr-separator", &init], not_measured.clone()),
        (vec![other, "nvpcr-separator"], not_measured.clone()),
        (vec![&init, &init, "nvpcr-separator"], not_measured),
    ] {
        assert_eq!(judge(&booted(&texts), &index, &good), Err(expected), "{texts:?}");
    }
    let mut unlogged = booted(&[&init, "nvpcr-separator"]);
    unlogged.userspace = None;
    assert_eq!(judge(&unlogged, &index, &good), Err(NvPcrError::NoList));
    // Text that was not what was extended.
    let mut decorated = scene(&[(9, "x"), (9, "nvpcr-separator")], None);
    let pcr_9 = r#""pcr":9"#;
    decorated.userspace = Some(systemd(&[(pcr_9, &init, Some("x")), (pcr_9, "nvpcr-separator", None)]));
    let error = judge(&decorated, &index, &good).unwrap_err();
    assert_eq!(error, NvPcrError::NotMeasured("hardware".to_owned()));
}

#[test]
fn a_certification_of_something_else_is_refused() {
    let index = Index::new();
    let scene = booted(&[&index.init_text(), "nvpcr-separator"]);
    let info = nv_info(&index.name(), 0, &VALUE);
    let refused = |attest: &Forged| judge(&scene, &index, attest).unwrap_err();
    assert!(matches!(refused(&attest(nv_info(&[0, 0xb, 1], 0, &VALUE))), NvPcrError::Name(_)));
    let other = Forged { extra_data: vec![1; 32], ..attest(info.clone()) };
    assert_eq!(refused(&other), NvPcrError::QualifyingData);
    let magic = Forged { magic: 1, ..attest(info.clone()) };
    assert_eq!(refused(&magic), NvPcrError::Certify(AttestError::Magic { found: 1 }));
    let bytes = attest(info.clone()).bytes();
    let (public, signature) = (index.public(), Key::new().sign(&bytes));
    let claim = NvPcrClaim { name: "hardware", public: &public, attest: &bytes, signature: &signature };
    let error =
        NvPcr::verify(&claim, &scene.key.ak(), QUALIFYING_DATA, &scene.verify().unwrap()).unwrap_err();
    assert!(matches!(error, NvPcrError::Signature(SignatureError::Forged)), "{error:?}");
    let mut rebooted = attest(info).bytes();
    let reset_count = 4 + 2 + 5 + 34 + 8 + 3;
    rebooted[reset_count] += 1;
    let signature = scene.key.sign(&rebooted);
    let claim = NvPcrClaim { name: "hardware", public: &public, attest: &rebooted, signature: &signature };
    let error =
        NvPcr::verify(&claim, &scene.key.ak(), QUALIFYING_DATA, &scene.verify().unwrap()).unwrap_err();
    assert_eq!(error, NvPcrError::OtherBoot);
}

#[test]
fn row_2_quotes_and_nv_certifications_never_pass_for_each_other() {
    let index = Index::new();
    let scene = booted(&[&index.init_text(), "nvpcr-separator"]);
    let quote = Forged { kind: 0x8018, ..attest(quote_info(&[(SHA256, [0xff, 0xff, 0])], &VALUE)) };
    let wanted = "an NV certification (0x8014 or 0x801c)";
    let error = judge(&scene, &index, &quote).unwrap_err();
    assert_eq!(error, NvPcrError::Certify(AttestError::Type { found: 0x8018, wanted }));
    let nv = attest(nv_info(&index.name(), 0, &VALUE)).bytes();
    assert!(matches!(Attest::parse(&nv), Err(AttestError::Type { found: 0x8014, .. })));
}

#[test]
fn public_areas_of_other_things_are_refused() {
    let parse = |index: &Index| NvPublic::parse(&index.public()).unwrap_err();
    assert_eq!(parse(&Index { handle: 0x8101_0001, ..Index::new() }), NvPublicError::Handle(0x8101_0001));
    assert_eq!(parse(&Index { name_alg: 4, ..Index::new() }), NvPublicError::NameAlg(4));
    let mut surplus = Index::new().public();
    surplus.push(0);
    assert!(matches!(NvPublic::parse(&surplus), Err(NvPublicError::Structure(_))));
    let parsed = Index::new();
    assert_eq!(NvPublic::parse(&parsed.public()).unwrap().name(true).to_bytes(), parsed.name());
}
