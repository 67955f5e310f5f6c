"""Who could tell that a record was in the training set: attacks by members, their rates, the risk of each record.

The mathematics takes arrays of log-odds and memberships, whoever made them; ``job`` alone knows runs. Nothing here trains by itself:
members come from ``judge``.
"""

from unseen.privacy.attacks import ATTACKS, attack_scores, fitted_a
from unseen.privacy.curve import risk_curve
from unseen.privacy.differential import epsilon_lower_bound
from unseen.privacy.drawing import figure, risk_by_class
from unseen.privacy.free import cumulative_loss, loss_trace_spread
from unseen.privacy.job import privacy_risk
from unseen.privacy.listing import risky
from unseen.privacy.rates import AT, Rate, attack_rates, roc_curve
from unseen.privacy.records import RISKS, Power, false_alarms, record_power, risk_classes
from unseen.privacy.signals import Shadows, Targets, log_odds_of_logits, log_odds_of_losses
