//! Each role beyond its right: every method of the Admin service, called over TLS by a person of every role.

use std::fs;
use std::path::Path;

use e2e::World;
use proto::v1::DenialReason as Reason;

use super::caller::{Identity, software_key};
use super::routes::{ADMIN, call, routes};

/// Roles, and the methods that need them; an owner may call all of them, and everybody those of a viewer. A method
/// that is added fails the test until it stands here.
const NEEDS: [(&str, &[&str]); 5] = [
    (
        "viewer",
        &[
            "ApproveChange",
            "ExplainConduit",
            "ExportAudit",
            "FollowResults",
            "ForecastEnforcement",
            "GetAuditSeal",
            "GetCalendar",
            "GetChange",
            "GetDevice",
            "GetGraph",
            "GetJwks",
            "GetRelease",
            "GetResult",
            "GetSbom",
            "GetStatus",
            "GetZone",
            "ListAdministrators",
            "ListAuditEvents",
            "ListAuthorities",
            "ListChanges",
            "ListConduits",
            "ListDevices",
            "ListExposed",
            "ListOverrides",
            "ListReleaseKeys",
            "ListReleases",
            "ListRollouts",
            "ListSboms",
            "ListTokens",
            "ListVouched",
            "ListZones",
            "ObserveDrill",
            "PlanGraph",
            "PlanRelease",
            "RejectChange",
            "RenewAdministrator",
        ],
    ),
    (
        "engineer",
        &[
            "AddSbom",
            "ApplyRelease",
            "HaltRollout",
            "LearnRelease",
            "RemoveSbom",
            "ResumeRollout",
            "Rollback",
            "SetReleaseState",
            "StartRollout",
            "WantRelease",
        ],
    ),
    (
        "operator",
        &[
            "AdmitDevice",
            "AttestDevice",
            "ChangeAddresses",
            "CreateToken",
            "EndOverride",
            "ExpectClear",
            "ImportDevices",
            "ImportList",
            "MoveDevice",
            "OverrideDevice",
            "QuarantineDevice",
            "ReadmitDevice",
            "ReplaceDevice",
            "RetireDevice",
            "RevokeToken",
            "SettleVouched",
        ],
    ),
    (
        "security",
        &[
            "ActivateAuthority",
            "AddReleaseKey",
            "AllowConduit",
            "ApplyGraph",
            "CloseConduit",
            "CreateZone",
            "DistrustAuthority",
            "EndDrill",
            "RemoveReleaseKey",
            "RotateAuthority",
            "RotateReleaseKey",
            "SetReleaseThreshold",
            "SetZone",
            "StartDrill",
        ],
    ),
    ("owner", &["Backup", "InviteAdministrator", "RemoveAdministrator", "Restore", "SetAdministrator"]),
];

/// The certificate and key in the context folder of a person.
pub(crate) fn person(context: &Path) -> Identity {
    let read = |name: &str| {
        let text = fs::read(context.join(name)).expect("a context folder");
        pem::parse_many(text).expect("PEM").remove(0).into_contents()
    };
    (read("admin.pem"), software_key(&read("admin.key")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_method_of_administration_is_refused_to_every_role_below_its_right() {
    let Some((world, [_])) = World::with_devices(["press-1"]) else { return };
    let people: Vec<(&str, Identity)> = NEEDS
        .iter()
        .filter(|(role, _)| *role != "owner")
        .map(|(role, _)| (*role, person(&world.invite(role, &format!("--role {role}")))))
        .collect();
    let before = world.store();
    let mut wrong = Vec::new();
    for path in routes().into_keys().filter(|path| path.starts_with(ADMIN)) {
        let method = path.trim_start_matches(ADMIN).trim_start_matches('/');
        let needed = NEEDS.iter().find(|(_, methods)| methods.contains(&method)).map(|(role, _)| *role);
        for (role, identity) in &people {
            let answer = call(&world, Some(identity.clone()), &path).await;
            let denial = answer.as_ref().err().and_then(proto::denial::from_status);
            // What a method says of its own, after the role was right, is not looked at.
            let refused = denial.filter(|denial| {
                denial.reason() == Reason::NotPermitted && denial.message.contains("needs the role")
            });
            let words = refused.as_ref().map(|denial| denial.message.as_str());
            let may = needed == Some("viewer") || needed == Some(role);
            let right = match words {
                None => may,
                Some(words) => needed.is_some_and(|needed| {
                    !may && words.contains(&format!("needs the role {needed}; {role} has the role {role}"))
                }),
            };
            if !right {
                wrong.push(format!("{method} as {role}, {needed:?}: {answer:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(world.store(), before, "a refusal changes nothing");
}
