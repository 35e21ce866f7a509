/*
 * Who the speakers of one transcript are: a colour for each, and the names given to them here.
 *
 * Labels such as `SPEAKER_00` are stable within one transcript only, so names are kept per job. There
 * are eight colours, told apart by people who are colour-blind; the ninth speaker has the first's.
 */

import { t } from "./i18n.js";
import { saveSpeakerNames, speakerNames } from "./settings.js";

const N_COLOURS = 8;

/** The speakers of a job's result. */
export class Speakers extends EventTarget {
  /** `ids` in order of first appearance. */
  constructor(jobId, ids) {
    super();
    this.jobId = jobId;
    this.ids = ids;
    this.names = speakerNames(jobId);
  }

  /** The class that colours the speaker. */
  colour(id) {
    const index = this.ids.indexOf(id);
    return index < 0 ? "speaker-none" : `speaker-${index % N_COLOURS}`;
  }

  /** The name given here, else `Speaker 1`. */
  name(id) {
    const number = this.ids.indexOf(id) + 1;
    return this.names[id] ?? (/^SPEAKER_\d+$/.test(id) ? t("speaker.default", { number }) : id);
  }

  /** Whether any speaker was given a name. */
  get isRenamed() {
    return Object.keys(this.names).length > 0;
  }

  /** Gives a speaker a name; an empty one takes it back. */
  rename(id, name) {
    const wanted = name.trim();
    if (wanted) this.names[id] = wanted;
    else delete this.names[id];
    saveSpeakerNames(this.jobId, this.names);
    this.dispatchEvent(new Event("change"));
  }
}
