"""Components: published changes to how a learner trains, which any learner from labels can take."""
