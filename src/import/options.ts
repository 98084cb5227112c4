/** How the graph takes its timestep: one for each video of the batch, or one for each token, as diffusers' `expand_timesteps` gives it. */
export const TIMESTEP_INPUTS = ['batch', 'tokens'] as const;

export type TimestepInput = (typeof TIMESTEP_INPUTS)[number];
