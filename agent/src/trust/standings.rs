//! What the teams say of their models besides listing versions: recalls and floors, read wherever a team's role is verified.
//!
//! It becomes durable in one write with the floor of the role that says it. Candidates have no say here: theirs is the word of
//! a robot, and the team's release keys can take back what it signs.

use std::{collections::BTreeSet, sync::Arc};

use sigstore_tuf::{Repository, Updater};
use tern_protocol::{
    digest::Digest,
    ids::{ModelName, TeamId},
    standing::{self, Standing},
    tuf,
};

use super::{Trust, TrustError, asking::Question};

/// What a team says of one model, under which keys.
#[derive(Debug, Clone)]
pub(super) struct Said {
    pub(super) model: ModelName,
    pub(super) key_set: Digest,
    pub(super) standing: Standing,
}

impl Trust {
    /// Asks what the teams of these models say of them now. What is known is in the store then.
    ///
    /// # Errors
    /// The first; what the other teams say is taken over all the same.
    pub async fn ask_standings(&self, models: &[ModelName]) -> Result<(), TrustError> {
        let _turn = self.turn.lock().await;
        self.ask(Question::Standings(models)).await.map(drop)
    }

    /// The same of one source.
    pub(super) async fn said(&self, repository: &Arc<dyn Repository>, models: &[ModelName]) -> Result<(), TrustError> {
        let mut updater = self.refreshed(repository).await?;
        let teams: BTreeSet<&TeamId> = models.iter().map(|model| &model.team).collect();
        let mut outcome = Ok(());
        for team in teams {
            let its: Vec<ModelName> = models.iter().filter(|m| m.team == *team).cloned().collect();
            outcome = outcome.and(self.hold_team(&mut updater, team, false, &its).await);
        }
        outcome
    }

    /// Verifies the team's release role, where that is not done, holds its floor and takes over what it says of `models`.
    /// With `candidate`, that role's floor is held too, and a team without a release role is refused.
    pub(super) async fn hold_team(
        &self,
        updater: &mut Updater,
        team: &TeamId,
        candidate: bool,
        models: &[ModelName],
    ) -> Result<(), TrustError> {
        // Any path of the team's leads to its role; whether the path is listed is another question.
        updater.get_target_info(&format!("models/{team}/-/-/manifest.json"), self.clock.now()).await?;
        let candidates = tuf::candidate_role(team);
        let names = [team.as_str(), candidates.as_str()];
        let roles = if candidate { &names[..] } else { &names[..1] };
        tuf::check_keys(updater.trusted(), roles)?;
        let seen = tuf::role_floors(updater.trusted(), roles);
        let key_set = seen.iter().find(|floor| floor.role == team.as_str()).map(|floor| floor.key_set);
        let (Some(key_set), Some(role)) = (key_set, updater.trusted().targets_role(team.as_str())) else {
            self.client.hold(updater, roles, None).await?;
            // Nobody could take a candidate back of a team that cannot be heard.
            return if candidate {
                Err(TrustError::UnknownTarget(format!("the release role of {team}")))
            } else {
                Ok(())
            };
        };
        let said = standing::of_role(&role.extra)?;
        let of = |model: &ModelName| Said {
            model: model.clone(),
            key_set,
            standing: said.get(&model.model).cloned().unwrap_or_default(),
        };
        let said = models.iter().map(of).collect();
        self.client.hold_with(updater, roles, said).await
    }
}
