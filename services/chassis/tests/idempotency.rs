//! The same request id gets the same answer, on both engines.

#![cfg(test)]

use counterfoil_chassis::{
    ApiError, Caller, both_engines,
    idempotency::{Begun, begin},
    testing::TestDatabase,
};
use counterfoil_proto::authority::{EndPrincipalRequest, IssueTokenResponse};
use tonic::Code;

fn request(name: &str) -> EndPrincipalRequest {
    EndPrincipalRequest {
        name: name.into(),
        request_id: "r1".into(),
    }
}

/// Does the request as an api method would; the answer is `answer` when it is new.
async fn call(
    db: &TestDatabase,
    principal: &str,
    request_id: &str,
    name: &str,
    answer: &str,
) -> Result<String, ApiError> {
    let caller = Caller::of_tenant("acme", principal, ["operator"]);
    let mut tx = db.write_tx("acme").await?;
    match begin::<IssueTokenResponse>(&mut tx, &caller, "Do", request_id, &request(name)).await? {
        Begun::Replay(answer) => Ok(answer.token_id),
        Begun::Fresh(fresh) => {
            let response = IssueTokenResponse {
                token_id: answer.into(),
                ..Default::default()
            };
            fresh.store(&mut tx, &response, 5).await?;
            tx.commit().await?;
            Ok(response.token_id)
        }
    }
}

both_engines! {
    async fn the_same_request_gets_the_first_answer(db: TestDatabase) {
        assert_eq!(call(&db, "p1", "r1", "a", "first").await.unwrap(), "first");
        assert_eq!(call(&db, "p1", "r1", "a", "second").await.unwrap(), "first");
        // Another caller's id is another id.
        assert_eq!(call(&db, "p2", "r1", "a", "other").await.unwrap(), "other");
        assert_eq!(call(&db, "p1", "r2", "a", "third").await.unwrap(), "third");
    }

    async fn the_same_id_with_another_request_is_refused(db: TestDatabase) {
        call(&db, "p1", "r1", "a", "first").await.unwrap();
        let error = call(&db, "p1", "r1", "b", "second").await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        for bad in ["x".repeat(65), "a\0b".to_owned()] {
            assert_eq!(call(&db, "p1", &bad, "a", "x").await.unwrap_err().code(), Code::InvalidArgument);
        }
    }

    async fn without_an_id_every_request_is_new(db: TestDatabase) {
        assert_eq!(call(&db, "p1", "", "a", "first").await.unwrap(), "first");
        assert_eq!(call(&db, "p1", "", "a", "second").await.unwrap(), "second");
    }

    async fn an_answer_whose_change_was_given_up_is_forgotten(db: TestDatabase) {
        let caller = Caller::of_tenant("acme", "p1", []);
        let mut tx = db.write_tx("acme").await.unwrap();
        let begun = begin::<IssueTokenResponse>(&mut tx, &caller, "Do", "r1", &request("a")).await;
        let Begun::Fresh(fresh) = begun.unwrap() else { panic!("it is new") };
        fresh.store(&mut tx, &IssueTokenResponse::default(), 5).await.unwrap();
        tx.rollback().await.unwrap();
        assert_eq!(call(&db, "p1", "r1", "a", "first").await.unwrap(), "first");
    }
}
