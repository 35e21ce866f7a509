"""Sentences to be spoken, written for this purpose; short words and long ones, commas and full stops."""

SENTENCES = {
    "en": """
The old harbour was quiet when the first boats came home from the sea.
Every morning, a woman in a red coat walked along the water and counted them.
She had learned the names of all the boats from her father, who built most of them himself.
When the wind was strong, she stayed until the last one had found its place.
Nobody in the village could remember a winter as long as this one.
The road across the mountains was closed, and the train arrived only twice a week.
People met in the small kitchen behind the bakery, because it was the warmest room in town.
They talked about the price of flour, about their children, and about the letter from the city.
What do you think they want from us, asked the baker, and nobody answered.
In the spring, a young engineer came with maps and a heavy box of instruments.
He measured the distance between the church and the river, and wrote the numbers in a blue book.
After three days he packed his things, thanked everybody, and promised to send a report.
The report never came, but in the summer they began to build a bridge.
It took four years, two hundred workers, and more stone than anybody had expected.
On the day it was opened, the woman in the red coat was the first to cross it.
She stopped in the middle, looked down at the water, and waved to the boats below.
Music played until late in the evening, and the children were allowed to stay awake.
Much later, when visitors asked her about that day, she only smiled and shook her head.
Some things, she said, are easier to build than to explain.
The bridge is still there, a little crooked, and it carries more cars than it should.
""",
    "de": """
Der alte Garten hinter dem Haus war seit vielen Jahren nicht mehr gepflegt worden.
Zwischen den Steinen wuchs Gras, und die Apfelbäume trugen nur noch kleine Früchte.
Eines Morgens kam ein Mann mit einer Schubkarre und begann, die Wege freizulegen.
Er sprach wenig, arbeitete langsam und machte jeden Mittag eine lange Pause.
Die Kinder aus der Nachbarschaft beobachteten ihn durch ein Loch im Zaun.
Was sucht er dort, fragte das Mädchen, und ihr Bruder zuckte mit den Schultern.
Nach einer Woche hatte der Mann einen Brunnen gefunden, den niemand mehr kannte.
Das Wasser war kalt und klar, und es schmeckte ein wenig nach Eisen.
Im Sommer blühten wieder Rosen, und am Abend saßen die Leute unter den Bäumen.
Sie brachten Brot, Käse und Kirschen mit, und manchmal spielte jemand Geige.
Der Mann erzählte, dass seine Großmutter diesen Garten vor hundert Jahren angelegt hatte.
Sie war aus einer fernen Stadt gekommen und hatte nur einen Koffer und zwölf Samen bei sich.
Aus den Samen wurden Bäume, aus den Bäumen wurde ein Garten, und aus dem Garten ein Treffpunkt.
Später, als die Zeiten schwieriger wurden, vergaßen die Menschen den Ort.
Heute steht am Eingang eine Tafel mit dem Namen der Großmutter.
Wer vorbeikommt, bleibt meistens kurz stehen, liest und geht dann hinein.
Im Herbst werden die Äpfel geerntet und an alle verteilt, die geholfen haben.
Der Mann sagt, ein Garten gehöre niemandem, man dürfe ihn nur eine Weile bewahren.
""",
    "es": """
La estación del pueblo era pequeña y tenía un solo reloj que nunca daba la hora correcta.
Cada tarde, el jefe de estación salía con su silbato y miraba hacia las montañas.
El tren llegaba tarde casi siempre, pero nadie se quejaba demasiado.
Los viajeros traían noticias, paquetes, frutas y a veces un pájaro en una jaula.
Una noche de invierno bajó del tren una mujer con un abrigo verde y una maleta muy grande.
Preguntó por la casa del médico, y todos le señalaron la misma calle.
Al día siguiente abrió una escuela en el antiguo molino, junto al río.
Los niños aprendieron a leer, a contar y a mirar las estrellas con un tubo de cartón.
Por qué brillan, preguntó una niña, y la maestra respondió con otra pregunta.
En primavera plantaron árboles alrededor del molino y pintaron las puertas de azul.
Los padres venían los domingos para escuchar las historias que sus hijos habían escrito.
Algunas eran tristes, otras muy divertidas, y todas terminaban con una fiesta.
Pasaron los años, y muchos de aquellos alumnos se marcharon a la ciudad.
Sin embargo, cuando volvían, lo primero que visitaban era el viejo molino.
La maestra ya no enseñaba, pero seguía sentada cerca de la ventana con un libro abierto.
El reloj de la estación, dicen, empezó a funcionar el día de su cumpleaños.
Nadie supo quién lo había reparado, y nadie quiso averiguarlo.
Desde entonces el tren llega tarde como antes, pero ahora todos saben exactamente cuánto.
""",
    "fr": """
Le marché commençait avant le lever du soleil, quand les rues étaient encore vides.
Les paysans arrivaient avec leurs charrettes et disposaient les légumes sur de longues tables.
Une vieille dame vendait du miel, des noix et des bouquets de lavande.
Elle connaissait le prénom de tous les enfants et leur donnait parfois un morceau de sucre.
Un matin, un musicien s'installa près de la fontaine avec un accordéon usé.
Il jouait des airs que personne ne connaissait, mais tout le monde s'arrêtait pour écouter.
D'où venez-vous, demanda la vieille dame, et il montra la route qui descendait vers la mer.
Pendant tout l'été, il revint chaque samedi à la même heure.
Les marchands lui offraient du pain, du fromage et quelques pommes.
En automne, la pluie tomba sans arrêt et la rivière sortit de son lit.
On travailla ensemble pendant trois nuits pour protéger les maisons du quartier.
Le musicien portait des sacs de sable comme les autres, et personne ne le voyait fatigué.
Quand le soleil revint, on découvrit que la fontaine avait disparu sous la boue.
Il fallut deux semaines pour la dégager et encore deux pour la faire couler de nouveau.
Ce jour-là, il joua un air très simple que tout le village apprit par cœur.
On le chante encore aujourd'hui, surtout le soir, quand le marché se termine.
""",
}


def sentences(language: str) -> list:
    return [line.strip() for line in SENTENCES[language].strip().splitlines()]
