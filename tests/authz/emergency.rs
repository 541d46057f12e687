//! People in an emergency: for a time their token means more, and then what it meant before.

use counterfoil_proto::authority::{
    ApproveEmergencyAccessRequest, EmergencyAccess, EndEmergencyAccessRequest,
    RequestEmergencyAccessRequest,
};

use crate::{suite::Governed, world::World};

impl Governed {
    /// A token of a principal whom an emergency makes an auditor for ten minutes.
    pub async fn in_emergency(&self, world: &World, id: &str) -> String {
        self.urgent(world, id).await.0
    }

    /// A token of a principal whom an emergency made an auditor; it is over.
    pub async fn after_emergency(&self, world: &World, id: &str) -> String {
        let (token, name) = self.urgent(world, id).await;
        let request = EndEmergencyAccessRequest {
            name,
            request_id: String::new(),
        };
        let mut customer = self.customer(world).emergencies().unwrap();
        customer.end_emergency_access(request).await.unwrap();
        token
    }

    async fn urgent(&self, world: &World, id: &str) -> (String, String) {
        let token = self.issue(world, id).await.token;
        let customer = self.customer(world);
        let mut own = customer.as_caller(&token).unwrap().emergencies().unwrap();
        let request = RequestEmergencyAccessRequest {
            tenant: world.name(),
            access: Some(EmergencyAccess {
                roles: vec!["auditor".to_owned()],
                duration_seconds: 600,
                ..EmergencyAccess::default()
            }),
            reason: "an outage".to_owned(),
            request_id: String::new(),
        };
        let asked = own.request_emergency_access(request).await.unwrap();
        let name = asked.into_inner().access.unwrap().name;
        let request = ApproveEmergencyAccessRequest {
            name: name.clone(),
            request_id: String::new(),
        };
        let mut customer = customer.emergencies().unwrap();
        customer.approve_emergency_access(request).await.unwrap();
        (token, name)
    }
}
