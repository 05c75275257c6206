/** The dropout port in a few lines of plain JavaScript: 16-bit thresholds over Philox words. */
import { PhiloxRng } from '../../src/base/index.ts';
import type { DropoutMasks } from '../../src/model/index.ts';

export const philoxDropout: DropoutMasks = {
  dropoutMask(target, key, rate) {
    const threshold = Math.round(rate * 65_536);
    const kept = 65_536 / (65_536 - threshold);
    const rng = new PhiloxRng(key);
    for (let i = 0; i < target.length; i += 1) {
      target[i] = (rng.nextUint32() & 0xffff) < threshold ? 0 : kept;
    }
  },
};
