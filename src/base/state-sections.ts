/** The flat vectors that a replica's state consists of, each of the model's length, as checkpoints and transfers name them. */
export const SECTIONS = ['parameters', 'firstMoment', 'secondMoment'] as const;
export type Section = (typeof SECTIONS)[number];
